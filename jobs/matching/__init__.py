"""What makes two images near-duplicates, and exact nearest neighbours."""

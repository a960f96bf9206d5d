"""The rule for near-duplicates, and the search for exact nearest neighbours."""

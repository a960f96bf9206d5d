"""Verifies pairs by their thumbnails, and measures the recall of the search."""

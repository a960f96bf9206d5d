"""Removes images that show the same as another one: semantic duplicates (`dedup.semantic`)."""

"""Finds pairs of hashes within the distance: by MinHash bands, within clusters, around popular images."""

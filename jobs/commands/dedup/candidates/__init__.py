"""Candidate pairs within the distance: by MinHash bands, inside clusters, around popular images."""

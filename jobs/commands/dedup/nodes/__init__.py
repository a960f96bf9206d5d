"""Prepares the distinct hashes: their ranks, and the results of an earlier run."""

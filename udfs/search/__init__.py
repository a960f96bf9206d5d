"""Pairs and neighbours among hashes and embeddings."""

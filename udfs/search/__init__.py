"""Finds pairs and neighbours among hashes and embeddings."""

"""Perceptual hashes, their Hamming distances and their MinHash signatures."""

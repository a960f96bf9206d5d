"""Perceptual hashes, their Hamming distance and their MinHash signatures."""

"""Chooses the distances within which two images count as copies, from the lake's own distances."""

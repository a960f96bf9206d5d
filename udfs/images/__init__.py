"""Aligns two images and compares them."""

"""Chooses the images to keep: an independent set, or one image of each component."""

"""Draws the parts of a picture: people, animals, objects, backdrops, overlays."""

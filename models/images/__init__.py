"""Decodes images safely and makes thumbnails."""

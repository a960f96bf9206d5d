"""The page of `label serve`: assignments, the journal, the images, the web server."""

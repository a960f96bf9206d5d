"""The page of `label serve`: who labels what, the journal, the images, the web."""

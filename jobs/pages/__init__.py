"""Pages: their templates, charts and thumbnails."""

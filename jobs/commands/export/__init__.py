"""`export`: one module per format, the dataset card and the metadata."""

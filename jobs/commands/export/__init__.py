"""`export`: one module for each format, and what stands beside the data."""

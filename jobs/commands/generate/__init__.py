"""`generate`: a picture set with known truth."""

"""`regurgitation`: generated images against the whole training set."""

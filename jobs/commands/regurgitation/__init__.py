"""`regurgitation`: finds training images that a model reproduces."""

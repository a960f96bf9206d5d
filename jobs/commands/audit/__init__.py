"""`audit`: how filtering moved the keywords of captions, and how far the weights move them back."""

"""`audit`: how filtering changed the share of captions with a keyword, and how far the weights restore it."""

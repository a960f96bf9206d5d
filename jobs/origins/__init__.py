"""Which source gave which image: the readings of each source, and the images that no source holds any more."""

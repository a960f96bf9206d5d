"""Who stays: an independent set or one of each component, and the images behind the hashes."""

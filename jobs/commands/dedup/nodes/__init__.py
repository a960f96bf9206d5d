"""What is compared: distinct hashes, numbered from best to worst, and what an earlier run found among them."""

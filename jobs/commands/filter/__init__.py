"""`filter`: decides which images to keep, by thresholds, labels and rules."""

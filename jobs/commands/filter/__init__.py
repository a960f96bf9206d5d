"""`filter`: thresholds, labels and rules decide which images are kept."""

"""The statistics: thresholds and their bounds, the probe behind the weights, keyword shifts, what to label."""

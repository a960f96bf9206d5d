"""Statistics: thresholds with bounds, the probe for the weights, keyword shifts, sampling of images to label."""

"""Cross-validation on labels, and simulated answers."""

"""Labels in numbers: cross-validation, simulated answers."""

"""Everything that needs torch, and the only place that imports it."""

"""How `label next` picks images: one module for each strategy, and what they share."""

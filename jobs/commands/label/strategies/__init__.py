"""How `label next` picks: one module for each strategy."""

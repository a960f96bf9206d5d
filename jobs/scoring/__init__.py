"""The decode pass and what it left out."""

"""`weigh`: importance weights that give back the balance which filtering took, and the curated set."""

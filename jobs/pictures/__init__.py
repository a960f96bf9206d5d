"""Pictures drawn with known truth: what is planned, how it is drawn, and how copies are made of it."""

"""`weigh`: importance weights that correct the bias of filtering, and the curated set."""

"""`dedup`: what is compared, how pairs are searched, who stays, and what the search missed."""

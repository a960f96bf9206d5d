"""People's decisions on images: which images a person names, and the rows of the table decisions."""

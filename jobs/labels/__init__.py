"""Labels: their files, which of several labels counts, random samples, embeddings of labelled images."""

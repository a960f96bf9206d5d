"""What labels mean: files of them, which one counts, random samples, their embeddings."""

"""The decode pass, scores from embeddings, and images without scores."""

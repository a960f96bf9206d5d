"""What is right and what was missed: thumbnails laid over each other, the recall of the search."""

"""What pictures are drawn with: canvas, palette, random choices."""

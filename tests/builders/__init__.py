"""What tests build: images, sources, models, and lakes with made-up rows."""

"""Words of captions and intervals of their shifts."""

"""Words and keywords of captions, and bootstrap counts."""

"""Plans and draws the pictures of `generate`: plan, scenes, captions, copies."""

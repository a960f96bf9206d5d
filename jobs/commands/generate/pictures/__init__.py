"""What `generate` draws: the plan, scenes, captions, copies."""

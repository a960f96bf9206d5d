"""The strategies of `label next`, one module each."""

"""The command `browse`: a page on this machine to look at everything in a lake."""

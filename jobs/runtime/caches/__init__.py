"""Files on this machine that can be made again: their folder, and the archive of Java's classes."""

"""The commands: one file or folder for each, and nothing that two of them need."""

"""Pages that a command serves on this machine: access and server."""

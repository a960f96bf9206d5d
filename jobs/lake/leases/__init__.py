"""The lease that makes one command the only writer of a lake, and whether the process that holds it still runs."""

"""The jobs: one module for each command, and beside them the tables, the lake, the session and the settings."""

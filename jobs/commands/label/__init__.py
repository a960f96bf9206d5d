"""`label next`, `serve`, `simulate`, `import`, `export`."""

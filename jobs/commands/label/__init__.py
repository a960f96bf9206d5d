"""The commands `label next`, `serve`, `simulate`, `import` and `export`."""

"""The Delta tables: their names and columns, and the only code that reads and writes them."""

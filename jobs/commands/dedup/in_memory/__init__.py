"""Finds the near-duplicates of a small lake in the driver's memory: the same rows as by Spark, without its jobs."""

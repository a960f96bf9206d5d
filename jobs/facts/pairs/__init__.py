"""Pairs of near-duplicates that people label: their random sample, and the precision that follows."""

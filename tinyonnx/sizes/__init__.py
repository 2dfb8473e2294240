"""Sizes as expressions, arrays of such sizes, and their evaluation."""

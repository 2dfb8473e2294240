"""Compilation of Python functions to machine code, and its cache; knows no operator."""

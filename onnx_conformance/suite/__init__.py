"""Folders and suites of cases: a model with inputs and the expected outputs."""

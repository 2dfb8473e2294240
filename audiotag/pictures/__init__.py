"""Plots of tags over time and pages of activations."""

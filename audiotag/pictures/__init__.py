"""Plots of class scores over time, and pages of activations."""

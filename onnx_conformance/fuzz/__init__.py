"""Differential testing: random models on several runtimes, whose differences are judged, reduced and stored."""

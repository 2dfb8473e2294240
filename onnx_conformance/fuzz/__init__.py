"""Differential testing: random models on several runtimes, differences judged, reduced and kept."""

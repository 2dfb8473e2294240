"""Benchmarks of speed and memory against other runtimes: `python -m benchmarks`."""

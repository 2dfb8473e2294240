"""Speed and memory beside peers: `python -m benchmarks`."""

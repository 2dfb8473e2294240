"""Many files into one output: inputs, workers, journal, resumption."""

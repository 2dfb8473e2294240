"""Random models with inputs: single nodes, networks, mutations of the cases of the backend suite."""

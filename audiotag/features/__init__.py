"""Log-mel features of samples: whole clips and streams."""

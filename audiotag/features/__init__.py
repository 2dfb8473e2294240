"""Log-mel features of whole clips and of streams."""

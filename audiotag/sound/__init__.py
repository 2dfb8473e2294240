"""Sound from any source: decoding, mono at the rate of the model, windows."""

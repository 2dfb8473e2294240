"""Own classes: examples, their embeddings, a linear head trained on them, and figures about a model."""

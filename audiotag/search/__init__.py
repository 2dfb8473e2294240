"""Search by sound: the nearest embeddings among results of `audiotag tag`."""

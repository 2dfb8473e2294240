"""`audiotag serve`: sound over HTTP in, tags as JSON out; needs the extra `serve`."""

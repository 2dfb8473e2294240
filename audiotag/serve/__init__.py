"""The HTTP server of `audiotag serve`: receives sounds, answers with tags as JSON (extra `serve`)."""

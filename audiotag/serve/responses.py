"""Answers that are sent at the pace of the client, within a bound on unsent bytes of all clients together."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from audiotag.serve.body import Room

CHUNK = 1 << 16
"""Bytes of one write; the next one waits until the client has accepted it."""


class PacedResponse(JSONResponse):
    """A JSON answer sent in chunks; its unsent bytes are taken from `room`, which the caller has checked."""

    def __init__(self, content: Any, room: Room) -> None:
        super().__init__(content)
        self._room = room

    @property
    def size(self) -> int:
        """Bytes of the body."""
        return len(self.body)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = memoryview(bytes(self.body))
        self._room.left -= len(body)
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            for start in range(0, len(body), CHUNK):
                more = start + CHUNK < len(body)
                chunk = bytes(body[start : start + CHUNK])
                await send({"type": "http.response.body", "body": chunk, "more_body": more})
        finally:
            self._room.left += len(body)

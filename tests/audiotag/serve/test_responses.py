"""Answers in chunks, within a bound on unsent bytes."""

from __future__ import annotations

import asyncio
import json

import pytest

pytest.importorskip("starlette")

from audiotag.serve.body import Room
from audiotag.serve.responses import CHUNK, PacedResponse

CONTENT = ["x" * 1000] * 500


def send(response, room, fail_after=None):
    """Return the messages of a response, and the room that was left during each."""
    messages, left = [], []

    async def receive():
        return {"type": "http.disconnect"}

    async def keep(message):
        if len(messages) == fail_after:
            raise OSError
        messages.append(message)
        left.append(room.left)

    asyncio.run(response({"type": "http"}, receive, keep))
    return messages, left


def test_chunks_are_small_and_all_there():
    room = Room(1 << 20)
    response = PacedResponse(CONTENT, room)
    (start, *chunks), left = send(response, room)
    assert dict(start["headers"])[b"content-length"] == str(response.size).encode()
    assert all(len(chunk["body"]) <= CHUNK for chunk in chunks)
    assert [chunk["more_body"] for chunk in chunks] == [True] * (len(chunks) - 1) + [False]
    assert len(chunks) > 3
    assert json.loads(b"".join(chunk["body"] for chunk in chunks)) == CONTENT
    assert set(left) == {(1 << 20) - response.size}
    assert room.left == 1 << 20


def test_room_is_given_back_after_an_error():
    room = Room(1 << 20)
    with pytest.raises(OSError):  # noqa: PT011  raised above
        send(PacedResponse(CONTENT, room), room, fail_after=2)
    assert room.left == 1 << 20

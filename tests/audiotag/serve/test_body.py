"""Reception of bodies."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.audiotag.serve.servers import Server, exchange, form, wav

pytest.importorskip("uvicorn")


def test_broken_forms(server: Server) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    for body in (b"--x--\r\n", b"nothing", b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--x--\r\n'):
        assert server.ask("tag", body, **headers)[0] == 400


def test_too_large_and_too_long(server: Server) -> None:
    large = bytes(3 << 20)
    assert server.ask("tag", large)[0] == 413
    assert server.ask("tag", form(large)[0], **{"Content-Type": form(b"")[1]})[0] == 413
    status, content = server.ask("tag", wav(21, 8000))
    assert (status, content["error"]["message"]) == (413, "<request>: longer than 20 s")


def test_a_body_of_unknown_length_is_counted(server: Server) -> None:
    head = b"POST /tag HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"%x\r\n" % (3 << 20) + bytes(3 << 20) + b"\r\n0\r\n\r\n"
    assert exchange(server, head, chunk).startswith(b"HTTP/1.1 413 ")


def test_uploads_that_wait_have_room_in_all() -> None:
    from starlette.exceptions import HTTPException
    from starlette.requests import Request as Asked

    from audiotag.serve.body import Room, receive

    async def upload(size: int, room: Room) -> bytes:
        async def body() -> dict[str, Any]:
            return {"type": "http.request", "body": bytes(size), "more_body": False}

        async with receive(Asked({"type": "http", "headers": []}, body), 100, 1, room) as received:
            if room.left > 50:
                with pytest.raises(HTTPException) as caught:
                    await upload(80, room)
                assert caught.value.status_code == 503
            return received.file.read()

    room = Room(150)
    assert asyncio.run(upload(80, room)) == bytes(80)
    with pytest.raises(HTTPException, match="413"):
        asyncio.run(upload(101, room))
    assert room.left == 150


def test_a_client_that_asks_first_is_told_before_it_sends(server: Server) -> None:
    head = b"POST /tag HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\nExpect: 100-continue\r\n\r\n"
    assert exchange(server, head).startswith(b"HTTP/1.1 413 ")

"""Request bodies, read within limits of size and time into a file that is in memory only while it is small."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import IO, Any

from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

IN_MEMORY = 1 << 20
"""Bytes of one request that are kept in memory; more goes to a temporary file."""

DRAIN_SECONDS = 2.0
"""How long a client that sends too much may go on: most read no answer before they have sent everything."""


SHARES = 32
"""Uploads of the greatest size that may be there at a time; of smaller ones, as many as take the same room."""


@dataclass
class Room:
    """Bytes that uploads may still take, all together."""

    left: int


@dataclass(frozen=True)
class Upload:
    """A sound that was sent, and what the client calls it."""

    file: IO[bytes]
    name: str | None


@asynccontextmanager
async def receive(request: Request, max_bytes: int, seconds: float, room: Room) -> AsyncGenerator[Upload, None]:
    """The sound of a request: its whole body, or the one file of a form; it is there within the context.

    Raises HTTPException: 400 for a broken form or no file, 408 if the body takes longer than
    `seconds`, 413 if it is longer than `max_bytes`, 503 if there is no room for it.
    """
    body = _Body(request, max_bytes, room)
    try:
        upload = await _read(request, body, seconds)
        with upload.file:
            yield upload
    finally:
        room.left += body.size


async def _read(request: Request, body: _Body, seconds: float) -> Upload:
    max_bytes = body.max_bytes
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > max_bytes:
        if request.headers.get("expect", "").lower() != "100-continue":
            await body.drain()
        raise body.too_large
    is_form = request.headers.get("content-type", "").startswith("multipart/form-data")
    try:
        async with asyncio.timeout(seconds):
            return await (_from_form(request, body) if is_form else _plain(body))
    except TimeoutError:
        raise HTTPException(408, f"the body took longer than {seconds:g} s") from None


def full(why: str) -> HTTPException:
    """What a client is told that should come back later."""
    return HTTPException(503, why, {"Retry-After": "1"})


async def discard(request: Request) -> None:
    """Take in what a client sends before it is told that nothing comes of it."""
    await _Body(request, 0, Room(0)).drain()


class _Body:
    """The bytes of a request, up to a limit; those that came take `size` bytes of the room."""

    def __init__(self, request: Request, max_bytes: int, room: Room) -> None:
        self.request, self.max_bytes, self.room = request, max_bytes, room
        self.size = 0
        self.too_large = HTTPException(413, f"more than {max_bytes} bytes")
        self.more = True

    async def blocks(self) -> AsyncGenerator[bytes, None]:
        while self.more:
            data = await self._receive()
            self.size += len(data)
            self.room.left -= len(data)
            if self.size > self.max_bytes:
                await self.drain()
                raise self.too_large
            if self.room.left < 0:
                await self.drain()
                raise full("too many uploads are waiting")
            yield data

    async def drain(self) -> None:
        with suppress(TimeoutError, ClientDisconnect):
            async with asyncio.timeout(DRAIN_SECONDS):
                while self.more:
                    await self._receive()

    async def _receive(self) -> bytes:
        message = await self.request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        self.more = message.get("more_body", False)
        data: bytes = message.get("body", b"")
        return data


async def _plain(body: _Body) -> Upload:
    file: Any = tempfile.SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115  whoever takes the upload closes it
    try:
        async for data in body.blocks():
            # a disk that is slow holds up nobody else
            await asyncio.to_thread(file.write, data) if file.tell() + len(data) > IN_MEMORY else file.write(data)
    except BaseException:
        file.close()
        raise
    file.seek(0)
    return Upload(file, None)


async def _from_form(request: Request, body: _Body) -> Upload:
    try:
        form = await MultiPartParser(request.headers, body.blocks(), max_files=1, max_fields=16).parse()
    except MultiPartException as error:
        raise HTTPException(400, error.message) from None
    for value in form.values():
        if not isinstance(value, str):
            return Upload(value.file, value.filename or None)
    raise HTTPException(400, "the form has no file")

"""Reception of request bodies within limits of size and time, in memory or, if large, in a temporary file."""

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
"""Bytes of one request kept in memory; larger bodies go to a temporary file."""

DRAIN_SECONDS = 2.0
"""Seconds for which the rest of a refused body is read; most clients read no answer before they have sent all of it."""


@dataclass
class Room:
    """The bytes that are left of a limit for all requests together."""

    left: int


@dataclass(frozen=True)
class Upload:
    """An uploaded file, and its name if the client gave one."""

    file: IO[bytes]
    name: str | None


@dataclass(frozen=True)
class Arrival:
    """A body on its way to the file at `path`, of `length` bytes in the end if the client said so.

    `received` ends when all of it is there, or raises what `receive` raises.
    """

    path: str
    length: int | None
    received: asyncio.Task[None]


@asynccontextmanager
async def arrive(request: Request, max_bytes: int, seconds: float, room: Room) -> AsyncGenerator[Arrival, None]:
    """Write the body of a request to a file, meanwhile run the context, and delete the file after it.

    Raises HTTPException 413 if the client says that the body is longer than `max_bytes`.
    """
    body = _Body(request, max_bytes, room)
    length = await _length(request, body)
    with tempfile.NamedTemporaryFile(prefix="audiotag-", buffering=0) as file:
        received = asyncio.create_task(_write(body, file, seconds))
        try:
            yield Arrival(file.name, length, received)
        finally:
            received.cancel()
            with suppress(asyncio.CancelledError, HTTPException, ClientDisconnect):
                await received
            room.left += body.size


async def _write(body: _Body, file: IO[bytes], seconds: float) -> None:
    async with _limit(seconds):
        async for data in body.blocks():
            # in a thread, because a slow disk would block all other requests
            await asyncio.to_thread(file.write, data)


@asynccontextmanager
async def receive(request: Request, max_bytes: int, seconds: float, room: Room) -> AsyncGenerator[Upload, None]:
    """Receive the upload of a request, its whole body or the file of a form; it is deleted after the context.

    Raises HTTPException: 400 for a broken form or one without a file, 408 if the body takes longer
    than `seconds`, 413 if it is longer than `max_bytes`, 503 if `room` is used up.
    """
    body = _Body(request, max_bytes, room)
    try:
        upload = await _read(request, body, seconds)
        with upload.file:
            yield upload
    finally:
        room.left += body.size


async def _read(request: Request, body: _Body, seconds: float) -> Upload:
    await _length(request, body)
    is_form = request.headers.get("content-type", "").startswith("multipart/form-data")
    async with _limit(seconds):
        return await (_from_form(request, body) if is_form else _plain(body))


async def _length(request: Request, body: _Body) -> int | None:
    """Return the length that the client states, None if it states none. Raises HTTPException 413."""
    declared = request.headers.get("content-length", "")
    if not declared.isdigit():
        return None
    if int(declared) > body.max_bytes:
        if request.headers.get("expect", "").lower() != "100-continue":
            await body.drain()
        raise body.too_large
    return int(declared)


@asynccontextmanager
async def _limit(seconds: float) -> AsyncGenerator[None, None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise HTTPException(408, f"the body took longer than {seconds:g} s") from None


def overloaded(cause: str) -> HTTPException:
    """Make the error for a client that should try again later."""
    return HTTPException(503, cause, {"Retry-After": "1"})


async def discard(request: Request) -> None:
    """Read and discard the body of a request that will be refused."""
    await _Body(request, 0, Room(0)).drain()


class _Body:
    """The body of a request: counts its bytes against its own limit and against the room for all."""

    def __init__(self, request: Request, max_bytes: int, room: Room) -> None:
        self.request, self.max_bytes, self.room = request, max_bytes, room
        self.size = 0
        self.too_large = HTTPException(413, f"the body is larger than {max_bytes} bytes")
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
                raise overloaded("too many uploads are waiting")
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
    file: Any = tempfile.SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115  closed by `receive`
    try:
        async for data in body.blocks():
            # in a thread, because a slow disk would block all other requests
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

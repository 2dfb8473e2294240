"""Answers of POST /windows: an upload on disk, and lines that are made in threads at the pace of the client."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from time import perf_counter
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from audiotag.errors import AudioError, CrashError, Error, LabelError
from audiotag.serve.analysis import Query
from audiotag.serve.body import Room, discard, overloaded, receive
from audiotag.serve.decoders import ClientGoneError, Decoders, TooLongError
from audiotag.serve.metrics import Metrics
from audiotag.serve.windows import MOST_OVERLAP, WindowsRequest, as_line, lines
from audiotag.sound.windows import Grid
from audiotag.tagger import Tagger


class WindowStreams:
    """Handler of POST /windows.

    Args:
        tagger: tags the sounds.
        decoders: decode them.
        metrics: count them.
        pool: the threads that tag; one line is made at a time, so that short requests get their turn between lines.
        max_bytes: largest upload; two of this size may exist at the same time.
        max_seconds: longest sound.
        body_seconds: time for receiving a body.
        at_once: number of recordings that are analysed at the same time, each with a decoder process.
        queue: number of requests that may wait or be analysed.
    """

    def __init__(
        self,
        tagger: Tagger,
        decoders: Decoders,
        metrics: Metrics,
        pool: ThreadPoolExecutor,
        max_bytes: int,
        max_seconds: float,
        body_seconds: float,
        at_once: int,
        queue: int,
    ) -> None:
        self._tagger, self._decoders, self._metrics, self._pool = tagger, decoders, metrics, pool
        self._max_bytes, self._max_seconds, self._body_seconds = max_bytes, max_seconds, body_seconds
        self._room = Room(2 * max_bytes)
        self._slots = asyncio.Semaphore(at_once)
        self._queue, self._waiting = queue, 0

    def respond(self, request: Request) -> Response:
        """Return a response that receives the body and sends the lines. Raises HTTPException 400."""
        try:
            query = Query.of(request.query_params, self._tagger.labels)
            grid = query.grid or Grid(2.0, 1.0)
            if grid.window > MOST_OVERLAP * grid.hop:
                raise ValueError(f"hop must be at least a {MOST_OVERLAP}th of window")
            self._tagger.scorer.checked(grid)
        except (ValueError, LabelError, Error) as error:
            raise HTTPException(400, str(error)) from None
        return _LinesResponse(self, request, query, grid)

    async def send_lines(self, request: Request, query: Query, grid: Grid, send: Send) -> None:
        """Receive the body and send the lines. Raises HTTPException as long as no line was sent."""
        started, status = perf_counter(), 500
        self._waiting += 1
        try:
            if self._waiting > self._queue:
                await discard(request)
                raise overloaded("too many requests are waiting")
            await self._receive_and_send(request, query, grid, send)
            status = 200
        except HTTPException as error:
            status = error.status_code
            raise
        except ClientDisconnect:
            status = 499
            raise
        finally:
            self._waiting -= 1
            self._metrics.request(status, perf_counter() - started)

    async def _receive_and_send(self, request: Request, query: Query, grid: Grid, send: Send) -> None:
        received = receive(request, self._max_bytes, self._body_seconds, self._room, named=True)
        async with received as upload:
            assert upload.path is not None
            name = query.name or "<request>"
            work = WindowsRequest(upload.path, name, grid, self._max_seconds, query.raw, query.channel)
            made = lines(self._tagger, self._decoders, work)
            gone = asyncio.ensure_future(_disconnected(request))
            try:
                async with self._slots:
                    if gone.done():
                        raise ClientDisconnect
                    with self._metrics.running.track_inprogress():
                        await self._send(made, gone, send)
            finally:
                work.abandoned.set()
                gone.cancel()
                with suppress(ValueError):  # a thread is making a line; it ends with ClientGoneError
                    made.close()

    async def _send(self, made: Iterator[dict[str, Any]], gone: asyncio.Future[None], send: Send) -> None:
        loop = asyncio.get_running_loop()
        line = await _first(loop.run_in_executor(self._pool, next, made, None))
        headers = [(b"content-type", b"application/x-ndjson; charset=utf-8"), (b"cache-control", b"no-store")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        while line is not None and not gone.done():
            await send({"type": "http.response.body", "body": as_line(line), "more_body": True})
            if "duration" in line:
                self._metrics.sound(line["duration"])
            try:
                line = await loop.run_in_executor(self._pool, next, made, None)
            except ClientGoneError:
                break
            except Error as error:
                await send({"type": "http.response.body", "body": as_line({"error": str(error)}), "more_body": True})
                break
        with suppress(OSError):
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _first(line: asyncio.Future[Any]) -> Any:
    """Return the first line. Raises HTTPException for the errors of a sound that can't be read."""
    try:
        return await line
    except TooLongError as error:
        raise HTTPException(413, str(error)) from None
    except (AudioError, CrashError) as error:
        raise HTTPException(422, str(error)) from None
    except ClientGoneError:
        raise ClientDisconnect from None
    except Error as error:
        raise HTTPException(500, str(error)) from None


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


class _LinesResponse(Response):
    """Sends the lines of a request."""

    def __init__(self, streams: WindowStreams, request: Request, query: Query, grid: Grid) -> None:
        super().__init__(media_type="application/x-ndjson")
        self._streams, self._request, self._query, self._grid = streams, request, query, grid

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._streams.send_lines(self._request, self._query, self._grid, send)

"""Answers of POST /windows: an upload on disk, and lines that are made in threads at the pace of the client."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from time import perf_counter
from typing import Any, NamedTuple

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from audiotag.errors import AudioError, CrashError, Error, LabelError
from audiotag.serve.analysis import Query
from audiotag.serve.body import Arrival, Room, arrive, discard, overloaded
from audiotag.serve.decoders import ClientGoneError, Decoders, TooLongError
from audiotag.serve.metrics import Metrics
from audiotag.serve.taggers import Taggers
from audiotag.serve.windows import MOST_OVERLAP, WindowsRequest, as_line, lines
from audiotag.sound.windows import Grid
from audiotag.tagger import Tagger

EARLY_SECONDS = 0.5
"""Time for which the analysis waits for the whole body before it begins with the part that has arrived."""

FOLLOW_SECONDS = 30.0
"""Time for which an upload and the request that follows it wait for each other."""


@dataclass
class Follower:
    """The request that gets the lines of an upload.

    `left` ends when its client has left, `taken` when the upload has found it, `end` when the lines are sent.
    """

    send: Send
    left: asyncio.Future[None]
    taken: asyncio.Future[None]
    end: asyncio.Future[None]


class Recording(NamedTuple):
    """The tagger, parameters and windows of a request."""

    tagger: Tagger
    query: Query
    grid: Grid


class WindowStreams:
    """Handler of POST /windows, and of GET /windows, which gets the lines of an upload that another request sends.

    Browsers show nothing of an answer before they have sent the whole request: to see the lines of a long upload while
    it arrives, they follow it with a second request; both have the same parameter `upload`.

    Args:
        taggers: tag the sounds.
        decoders: decode them.
        metrics: count them.
        pool: the threads that tag; one line is made at a time, so that short requests get their turn between lines.
        max_bytes: largest upload; two of this size may exist at the same time.
        max_seconds: longest sound.
        body_seconds: time for receiving a body.
        at_once: number of recordings that are analysed at the same time, each with a decoder process; as many more
            while they arrive, by threads of their own.
        queue: number of requests that may wait or be analysed.
    """

    def __init__(
        self,
        taggers: Taggers,
        decoders: Decoders,
        metrics: Metrics,
        pool: ThreadPoolExecutor,
        max_bytes: int,
        max_seconds: float,
        body_seconds: float,
        at_once: int,
        queue: int,
    ) -> None:
        self._taggers, self._decoders, self._metrics, self._pool = taggers, decoders, metrics, pool
        self._max_bytes, self._max_seconds, self._body_seconds = max_bytes, max_seconds, body_seconds
        self._room = Room(2 * max_bytes)
        self._slots, self._early = asyncio.Semaphore(at_once), asyncio.Semaphore(at_once)
        self._early_pool = ThreadPoolExecutor(at_once, thread_name_prefix="arriving")
        self._queue, self._waiting = queue, 0
        self._followers: dict[str, asyncio.Future[Follower]] = {}

    def close(self) -> None:
        """Start no further work."""
        self._early_pool.shutdown(wait=False, cancel_futures=True)

    def respond(self, request: Request) -> Response:
        """Return a response that receives the body and sends the lines. Raises HTTPException 400."""
        parameters = {key: value for key, value in request.query_params.items() if key != "upload"}
        try:
            tagger = self._taggers.chosen(parameters)
            query = Query.of(parameters, tagger.labels)
            grid = query.grid or Grid(2.0, 1.0)
            if grid.window > MOST_OVERLAP * grid.hop:
                raise ValueError(f"hop must be at least a {MOST_OVERLAP}th of window")
            tagger.scorer.checked(grid)
        except (ValueError, LabelError, Error) as error:
            raise HTTPException(400, str(error)) from None
        return _LinesResponse(self, request, Recording(tagger, query, grid))

    def follow(self, request: Request) -> Response:
        """Return a response that sends the lines of an upload. Raises HTTPException 400."""
        if "upload" not in request.query_params:
            raise HTTPException(400, "upload= is missing: the name that the upload of POST /windows has")
        return _FollowResponse(self, request)

    async def send_lines(self, request: Request, recording: Recording, send: Send) -> None:
        """Receive the body and send the lines. Raises HTTPException as long as no line was sent."""
        started, status = perf_counter(), 500
        self._waiting += 1
        try:
            if self._waiting > self._queue:
                await discard(request)
                raise overloaded("too many requests are waiting")
            if "upload" in request.query_params:
                await self._send_to_follower(request, recording, request.query_params["upload"])
                await send({"type": "http.response.start", "status": 204, "headers": []})
                await send({"type": "http.response.body", "body": b""})
            else:
                await self._receive_and_send(request, recording, send)
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

    async def wait_for_lines(self, name: str, follower: Follower) -> None:
        """Have the upload of this name send its lines, and wait for their end.

        Raises HTTPException: 404 if there is no such upload, 409 if another request follows it, and its own errors.
        """
        if self._waiting + len(self._followers) > self._queue:
            raise overloaded("too many requests are waiting")
        meeting = self._followers.setdefault(name, asyncio.get_running_loop().create_future())
        if meeting.done():
            raise HTTPException(409, f"the upload {name!r} is followed already")
        meeting.set_result(follower)
        try:
            await asyncio.wait_for(follower.taken, FOLLOW_SECONDS)
        except TimeoutError:
            raise HTTPException(404, f"there is no upload {name!r}") from None
        finally:
            if self._followers.get(name) is meeting:
                del self._followers[name]
        await follower.end

    async def _send_to_follower(self, request: Request, recording: Recording, name: str) -> None:
        meeting = self._followers.setdefault(name, asyncio.get_running_loop().create_future())
        try:
            follower = await asyncio.wait_for(asyncio.shield(meeting), FOLLOW_SECONDS)
            if follower.taken.done():
                raise HTTPException(409, f"there is another upload {name!r}")
            follower.taken.set_result(None)
        except TimeoutError:
            raise HTTPException(408, f"no request follows the upload {name!r}: send GET /windows?upload=") from None
        finally:
            self._followers.pop(name, None)
        try:
            await self._receive_and_send(request, recording, follower.send, follower)
        except (HTTPException, ClientDisconnect) as error:
            if not follower.end.done():
                follower.end.set_exception(error)
            raise
        finally:
            if not follower.end.done():
                follower.end.set_result(None)

    async def _receive_and_send(
        self, request: Request, recording: Recording, send: Send, follower: Follower | None = None
    ) -> None:
        tagger, query, grid = recording
        async with arrive(request, self._max_bytes, self._body_seconds, self._room) as arrival:
            gone = asyncio.ensure_future(_gone(request, arrival, follower))
            try:
                early = not await _arrives(arrival, gone, EARLY_SECONDS)
                if early and (arrival.length is None or self._early.locked()):
                    early = not await _arrives(arrival, gone)
                work = WindowsRequest(
                    arrival.path, query.name or "<request>", grid, self._max_seconds, query.raw, query.channel,
                    arrival.length if early else None, lambda: not arrival.received.done(),
                )  # fmt: skip
                gone.add_done_callback(lambda _: work.abandoned.set())
                made = lines(tagger, self._decoders, work)
                try:
                    async with self._early if early else self._slots:
                        _raise_if(gone)
                        with self._metrics.running.track_inprogress():
                            await self._send(made, arrival, gone, send)
                except HTTPException:
                    # most clients read no answer before they have sent it all
                    await asyncio.wait({arrival.received, gone}, return_when=asyncio.FIRST_COMPLETED)
                    raise
                finally:
                    work.abandoned.set()
                    with suppress(ValueError):  # a thread is making a line: it ends with ClientGoneError
                        made.close()
            finally:
                gone.cancel()
                with suppress(asyncio.CancelledError, HTTPException, ClientDisconnect):
                    await gone

    async def _send(
        self, made: Iterator[dict[str, Any]], arrival: Arrival, gone: asyncio.Future[None], send: Send
    ) -> None:
        loop = asyncio.get_running_loop()

        def next_line() -> asyncio.Future[Any]:
            # threads that wait for an upload are not those of short requests
            pool = self._pool if arrival.received.done() else self._early_pool
            return loop.run_in_executor(pool, next, made, None)

        try:
            line = await _first(next_line())
        except ClientDisconnect:
            _raise_if(gone)
            raise
        headers = [(b"content-type", b"application/x-ndjson; charset=utf-8"), (b"cache-control", b"no-store")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        while line is not None and not gone.done():
            await send({"type": "http.response.body", "body": as_line(line), "more_body": True})
            if "duration" in line:
                self._metrics.sound(line["duration"])
            try:
                line = await next_line()
            except ClientGoneError:
                break
            except Error as error:
                await send({"type": "http.response.body", "body": as_line({"error": str(error)}), "more_body": True})
                break
        with suppress(OSError):
            if gone.done() and isinstance(refused := gone.exception(), HTTPException):
                await send(
                    {"type": "http.response.body", "body": as_line({"error": refused.detail}), "more_body": True}
                )
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _arrives(arrival: Arrival, gone: asyncio.Future[None], seconds: float | None = None) -> bool:
    """Wait for the whole body, at most some seconds, and return whether it is there.

    Raises HTTPException if it can't be received, ClientDisconnect.
    """
    await asyncio.wait({arrival.received, gone}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    if not arrival.received.done():
        _raise_if(gone)
        return False
    arrival.received.result()
    return True


async def _gone(request: Request, arrival: Arrival, follower: Follower | None) -> None:
    """Wait until nobody reads the lines any more; raise the error for which the body can't be received."""
    left = asyncio.ensure_future(_arrived_and_gone(request, arrival))
    try:
        await asyncio.wait({left, *([follower.left] if follower else [])}, return_when=asyncio.FIRST_COMPLETED)
        if left.done():
            left.result()
    finally:
        left.cancel()


async def _arrived_and_gone(request: Request, arrival: Arrival) -> None:
    await asyncio.shield(arrival.received)
    await disconnected(request)


def _raise_if(gone: asyncio.Future[None]) -> None:
    """Raise the reason for which nobody reads the lines, if there is one."""
    if gone.done():
        gone.result()
        raise ClientDisconnect


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


async def disconnected(request: Request) -> None:
    """Return when the client has closed the connection; call it when the body has been received."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


class _LinesResponse(Response):
    """Sends the lines of a request."""

    def __init__(self, streams: WindowStreams, request: Request, recording: Recording) -> None:
        super().__init__(media_type="application/x-ndjson")
        self._streams, self._request, self._recording = streams, request, recording

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._streams.send_lines(self._request, self._recording, send)


class _FollowResponse(Response):
    """Waits until an upload has sent its lines."""

    def __init__(self, streams: WindowStreams, request: Request) -> None:
        super().__init__(media_type="application/x-ndjson")
        self._streams, self._request = streams, request

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        left = asyncio.ensure_future(disconnected(self._request))
        loop = asyncio.get_running_loop()
        follower = Follower(send, left, loop.create_future(), loop.create_future())
        try:
            await self._streams.wait_for_lines(self._request.query_params["upload"], follower)
        finally:
            left.cancel()

"""The HTTP interface: POST /tag and /windows, GET /windows, /, /labels, /health and /metrics."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from importlib.resources import files
from time import perf_counter
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from audiotag import __version__
from audiotag.errors import AudioError, CrashError, Error, LabelError
from audiotag.serve.analysis import AnalysisRequest, Answer, Query, analyse
from audiotag.serve.body import Room, discard, overloaded, receive
from audiotag.serve.decoders import Decoders, TooLongError
from audiotag.serve.guard import Guard
from audiotag.serve.metrics import Metrics
from audiotag.serve.responses import PacedResponse
from audiotag.serve.streaming import WindowStreams, disconnected
from audiotag.serve.taggers import Taggers
from audiotag.tagger import Tagger

CONTENT_POLICY = (
    "default-src 'none'; connect-src 'self'; img-src 'self' data:; media-src blob:; "
    "script-src 'self'; style-src 'self'; frame-ancestors 'none'"
)
"""Content security policy of the page: it loads its own files only, and no other page may frame it."""

_TYPES = {".css": "text/css", ".js": "text/javascript"}
"""Media types of the files of the page."""


@dataclass(frozen=True)
class RequestLimits:
    """Limits of a request, and of all requests together.

    Attributes:
        max_bytes: largest upload.
        max_seconds: longest sound.
        body_seconds: time for receiving a body.
        queue: number of requests that may wait.
        uploads: number of uploads of the largest size that may exist at the same time; of smaller
            ones, as many as take the same space.
        unsent_bytes: bytes of all answers that clients have not read yet.
        recording_bytes: largest upload of POST /windows; two of this size may exist at the same time.
        recording_seconds: longest sound of POST /windows.
    """

    max_bytes: int = 64 << 20
    max_seconds: float = 600.0
    body_seconds: float = 30.0
    queue: int = 2048
    uploads: int = 32
    unsent_bytes: int = 256 << 20
    recording_bytes: int = 4 << 30
    recording_seconds: float = 86400.0


def make_app(
    taggers: Taggers,
    decoders: Decoders,
    limits: RequestLimits = RequestLimits(),
    workers: int = 1,
    hosts: Iterable[str] = (),
) -> Starlette:
    """Make the ASGI application.

    Args:
        taggers: tag the sounds.
        decoders: decode them.
        limits: limits of each request, and of all together.
        workers: number of sounds tagged at the same time.
        hosts: host names that requests may use beside IP addresses and localhost.
    """
    service = Service(taggers, decoders, limits, workers)
    app = Starlette(
        routes=[
            Route("/", service.page),
            Route("/page/{name}", service.part),
            Route("/tag", service.tag, methods=["POST"]),
            Route("/windows", service.windows, methods=["POST"]),
            Route("/windows", service.follow, methods=["GET"]),
            Route("/labels", service.labels),
            Route("/health", service.health),
            Route("/metrics", service.metrics.page),
        ],
        middleware=[Middleware(Guard, hosts=hosts)],
        exception_handlers={HTTPException: _explain, ClientDisconnect: _gone},
    )
    app.state.service = service
    return app


class Service:
    """Handlers of the routes."""

    def __init__(self, taggers: Taggers, decoders: Decoders, limits: RequestLimits, workers: int) -> None:
        self.taggers, self.decoders, self.limits = taggers, decoders, limits
        self.metrics = Metrics()
        self._uploads = Room(limits.uploads * limits.max_bytes)
        self._answers = Room(limits.unsent_bytes)
        self.metrics.watch_unsent(lambda: limits.unsent_bytes - self._answers.left)
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="tag")
        self._running: set[Future[Answer]] = set()
        package = files("audiotag")
        parts = [*package.joinpath("page").iterdir(), package.joinpath("serve", "engine.js")]
        self._parts = {part.name: part.read_text(encoding="utf-8") for part in parts if part.is_file()}
        longer = max(1.0, limits.recording_bytes / max(1, limits.max_bytes))
        self._streams = WindowStreams(
            taggers, decoders, self.metrics, self._pool, limits.recording_bytes, limits.recording_seconds,
            limits.body_seconds * longer, workers, limits.queue,
        )  # fmt: skip
        self._waiting = 0

    def close(self) -> bool:
        """Drop waiting requests and kill the decoders; return whether a thread is still tagging."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._streams.close()
        self.decoders.close()
        return any(future.running() for future in self._running)

    async def tag(self, request: Request) -> Response:
        """Answer with the JSONL row of a sound, or with `window=` a list of them."""
        self._waiting += 1
        started = perf_counter()
        status = 500
        try:
            if self._waiting > self.limits.queue:
                await discard(request)
                raise overloaded("too many requests are waiting")
            response = await self._tag(request)
            status = response.status_code
            return response
        except HTTPException as error:
            status = error.status_code
            raise
        except ClientDisconnect:
            status = 499
            raise
        except asyncio.CancelledError:
            status = 503
            raise overloaded("the server is stopping") from None
        finally:
            self._waiting -= 1
            self.metrics.request(status, perf_counter() - started)

    async def _tag(self, request: Request) -> Response:
        try:
            tagger = self.taggers.chosen(request.query_params)
            query = Query.of(request.query_params, tagger.labels)
        except (ValueError, LabelError) as error:
            raise HTTPException(400, str(error)) from None
        limits = self.limits
        async with receive(request, limits.max_bytes, limits.body_seconds, self._uploads) as upload:
            name = query.name or upload.name or "<request>"
            job = AnalysisRequest(upload.file, name, query, limits.max_seconds)
            answer = await self._analyse(request, tagger, job)
        self.metrics.sound(answer.duration)
        response = PacedResponse(answer.content, self._answers)
        if response.size > self._answers.left:
            raise overloaded("too many answers have not been read")
        return response

    async def _analyse(self, request: Request, tagger: Tagger, job: AnalysisRequest) -> Answer:
        """Analyse in a thread; drop the work when the client leaves."""
        future = self._pool.submit(analyse, tagger, self.decoders, job)
        self._running.add(future)
        future.add_done_callback(self._running.discard)
        answer = asyncio.wrap_future(future)
        gone = asyncio.ensure_future(disconnected(request))
        try:
            with self.metrics.running.track_inprogress():
                await asyncio.wait((answer, gone), return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                raise ClientDisconnect
            return answer.result()
        except TooLongError as error:
            raise HTTPException(413, str(error)) from None
        except (AudioError, CrashError) as error:
            raise HTTPException(422, str(error)) from None
        except Error as error:
            raise HTTPException(500, str(error)) from None
        finally:
            job.abandoned.set()
            answer.cancel()  # takes the work out of the queue
            gone.cancel()

    async def windows(self, request: Request) -> Response:
        """Answer with the scores of all windows of a recording, line by line; see `audiotag.serve.windows`."""
        return self._streams.respond(request)

    async def follow(self, request: Request) -> Response:
        """Answer with the lines of an upload that another request sends."""
        return self._streams.follow(request)

    async def page(self, _: Request) -> Response:
        """Answer with the page for trying the tagger."""
        return HTMLResponse(self._parts["index.html"], headers={"Content-Security-Policy": CONTENT_POLICY})

    async def part(self, request: Request) -> Response:
        """Answer with a file of the page."""
        name = request.path_params["name"]
        kind = _TYPES.get(os.path.splitext(name)[1])
        if kind is None or name not in self._parts:
            raise HTTPException(404, f"the page has no file {name!r}")
        return Response(self._parts[name], media_type=kind, headers={"Cache-Control": "no-cache"})

    async def labels(self, request: Request) -> Response:
        """Answer with all classes of a model."""
        try:
            labels = self.taggers.chosen(request.query_params).labels
        except ValueError as error:
            raise HTTPException(400, str(error)) from None
        return JSONResponse([{"index": each.index, "mid": each.mid, "label": each.name} for each in labels])

    async def health(self, _: Request) -> Response:
        """Answer with the models, the limits and the number of requests in progress; `model` is the default."""
        models = list(map(_facts, self.taggers))
        content = {
            "status": "ok",
            "model": models[0],
            "models": models,
            "audiotag": __version__,
            "limits": {
                "bytes": self.limits.max_bytes,
                "seconds": self.limits.max_seconds,
                "recording_bytes": self.limits.recording_bytes,
                "recording_seconds": self.limits.recording_seconds,
            },
            "waiting": self._waiting,
        }
        return JSONResponse(content)


def _facts(tagger: Tagger) -> dict[str, Any]:
    model, network = tagger.model, tagger.network
    frames = network.description.frames
    return {
        "name": model.name,
        "sha256": model.sha256,
        "trained": model.trained,
        "precision": network.precision,
        "frame_rate": None if frames is None else frames.rate,
    }


async def _explain(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers: Mapping[str, str] = error.headers or {}
    if error.status_code in (408, 413, 503):
        # the rest of the body is not read
        headers = {**headers, "Connection": "close"}
    content: dict[str, Any] = {"error": {"status": error.status_code, "message": error.detail}}
    return JSONResponse(content, error.status_code, headers)


async def _gone(_: Request, __: Exception) -> Response:
    return Response(status_code=499)

"""The HTTP interface: POST /tag, GET /, /labels, /health and /metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.resources import files
from time import perf_counter
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from audiotag import __version__
from audiotag.errors import AudioError, Error, LabelError
from audiotag.labels import all_labels
from audiotag.serve.analysis import Answer, Query, TooLongError, analyse
from audiotag.serve.body import SHARES, Room, Upload, discard, full, receive
from audiotag.serve.metrics import Metrics
from audiotag.tagger import Tagger

CONTENT_POLICY = (
    "default-src 'none'; connect-src 'self'; img-src 'self' data:; media-src blob:; "
    "script-src 'unsafe-inline'; style-src 'unsafe-inline'"
)
"""The page loads nothing from anywhere."""


@dataclass(frozen=True)
class Limits:
    """What a request may cost, and how many may wait."""

    max_bytes: int = 64 << 20
    max_seconds: float = 600.0
    body_seconds: float = 30.0
    queue: int = 2048


def make_app(tagger: Tagger, limits: Limits = Limits(), workers: int = 1) -> Starlette:
    """The ASGI application; `workers` sounds are tagged at a time, up to `limits.queue` requests wait."""
    service = _Service(tagger, limits, workers)
    app = Starlette(
        routes=[
            Route("/", service.page),
            Route("/tag", service.tag, methods=["POST"]),
            Route("/labels", service.labels),
            Route("/health", service.health),
            Route("/metrics", service.metrics.page),
        ],
        exception_handlers={HTTPException: _explain, ClientDisconnect: _gone},
    )
    app.state.close = service.close
    return app


class _Service:
    def __init__(self, tagger: Tagger, limits: Limits, workers: int) -> None:
        self.tagger, self.limits = tagger, limits
        self.metrics = Metrics()
        self._room = Room(SHARES * limits.max_bytes)
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="tag")
        self._page = files("audiotag.serve").joinpath("page.html").read_text(encoding="utf-8")
        self._waiting = 0

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    async def tag(self, request: Request) -> Response:
        """The row of `--format jsonl` of a sound, or with `window=` a list of them."""
        self._waiting += 1
        started = perf_counter()
        status = 500
        try:
            if self._waiting > self.limits.queue:
                await discard(request)
                raise full("too many requests are waiting")
            response = await self._tag(request)
            status = response.status_code
            return response
        except HTTPException as error:
            status = error.status_code
            raise
        except ClientDisconnect:
            status = 499
            raise
        finally:
            self._waiting -= 1
            self.metrics.request(status, perf_counter() - started)

    async def _tag(self, request: Request) -> Response:
        try:
            query = Query.of(request.query_params)
        except (ValueError, LabelError) as error:
            raise HTTPException(400, str(error)) from None
        async with receive(request, self.limits.max_bytes, self.limits.body_seconds, self._room) as upload:
            answer = await self._analyse(upload, query)
        self.metrics.sound(answer.duration)
        return JSONResponse(answer.content)

    async def _analyse(self, upload: Upload, query: Query) -> Answer:
        name = query.name or upload.name or "<request>"
        loop = asyncio.get_running_loop()
        try:
            with self.metrics.running.track_inprogress():
                return await loop.run_in_executor(
                    self._pool, analyse, self.tagger, upload.file, name, query, self.limits.max_seconds
                )
        except TooLongError as error:
            raise HTTPException(413, str(error)) from None
        except AudioError as error:
            raise HTTPException(422, str(error)) from None
        except Error as error:
            raise HTTPException(500, str(error)) from None

    async def page(self, _: Request) -> Response:
        return HTMLResponse(self._page, headers={"Content-Security-Policy": CONTENT_POLICY})

    async def labels(self, _: Request) -> Response:
        return JSONResponse([{"index": each.index, "mid": each.mid, "label": each.name} for each in all_labels()])

    async def health(self, _: Request) -> Response:
        model = self.tagger.model
        content = {
            "status": "ok",
            "model": {"name": model.name, "sha256": model.sha256, "trained": model.trained},
            "audiotag": __version__,
            "limits": {"bytes": self.limits.max_bytes, "seconds": self.limits.max_seconds},
            "waiting": self._waiting,
        }
        return JSONResponse(content)


async def _explain(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers: Mapping[str, str] = error.headers or {}
    if error.status_code in (408, 413, 503):
        # what is left of the body isn't read
        headers = {**headers, "Connection": "close"}
    content: dict[str, Any] = {"error": {"status": error.status_code, "message": error.detail}}
    return JSONResponse(content, error.status_code, headers)


async def _gone(_: Request, __: Exception) -> Response:
    return Response(status_code=499)

"""`audiotag serve`: tags over HTTP, and a page to try it."""

from __future__ import annotations

import argparse
import os
import socket
from typing import Any

from audiotag.commands.tag import number, warn_if_untrained
from audiotag.console import say
from audiotag.errors import Error

EPILOG = """\
examples:
  audiotag serve                                            http://127.0.0.1:8000/
  curl --data-binary @clip.wav 'http://127.0.0.1:8000/tag?top=3'
  curl -F file=@clip.flac 'http://127.0.0.1:8000/tag?window=10&hop=5'

POST /tag answers with the object that --format jsonl writes, or with window= a list of
them. Also: raw=, rate= and channels= for headerless samples, threshold=, labels=.
GET /labels, /health, /metrics (Prometheus). It binds to this machine alone unless --host
says otherwise; it knows no users: before others may reach it, put a proxy in front."""


class ServeError(Error):
    """The server can't start."""


def add_parser(subparsers: Any) -> None:
    """Add the subcommand to the command line."""
    parser = subparsers.add_parser(
        "serve",
        help="tags over HTTP, and a page to try it",
        description="Answer HTTP requests with tags; the page at / takes a file or a recording.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(run=run, parser=parser)
    parser.add_argument(
        "--model", metavar="NAME|PATH", help="a model's name or an ONNX file (default: the shipped one)"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to bind to (default: 127.0.0.1)")
    parser.add_argument("--port", type=port, default=8000, help="0 takes any that is free (default: 8000)")
    parser.add_argument(
        "--workers",
        type=number,
        default=os.cpu_count() or 1,
        metavar="N",
        help="sounds tagged at a time (default: the number of cores)",
    )
    parser.add_argument(
        "--max-mib",
        type=number,
        default=64,
        metavar="N",
        help="largest upload, in MiB (default: 64); those that wait take 32 times that at most, then 503",
    )
    parser.add_argument(
        "--max-seconds", type=number, default=600, metavar="N", help="longest sound, in seconds (default: 600)"
    )
    parser.add_argument(
        "--body-timeout",
        type=number,
        default=30,
        metavar="S",
        help="seconds that a request's head, and its body, may take (default: 30)",
    )
    parser.add_argument(
        "--queue", type=number, default=2048, metavar="N", help="requests that may wait (default: 2048), then 503"
    )


def port(text: str) -> int:
    """An argument that is a TCP port."""
    value = int(text)
    if not 0 <= value < 1 << 16:
        raise argparse.ArgumentTypeError(f"{value} is not in 0..65535")
    return value


def run(args: argparse.Namespace) -> int:
    """Serve until interrupted or terminated."""
    try:
        import uvicorn

        from audiotag.serve.app import Limits, make_app
        from audiotag.serve.connections import impatient
    except ImportError as error:
        raise ServeError(f"{error.name} is missing: pip install 'tinyonnx[serve]'") from None
    import numpy as np

    from audiotag.sound.audio import SAMPLE_RATE
    from audiotag.tagger import Tagger

    tagger = Tagger(args.model)
    # so that a machine's first run compiles before anybody waits
    tagger.tag(np.zeros(SAMPLE_RATE, np.float32), SAMPLE_RATE)
    warn_if_untrained(tagger.model)
    limits = Limits(args.max_mib << 20, args.max_seconds, args.body_timeout, args.queue)
    app = make_app(tagger, limits, args.workers)
    listener = _listen(args.host, args.port)
    host, bound = listener.getsockname()[:2]
    say(f"model {tagger.model.name}, listening on http://{f'[{host}]' if ':' in host else host}:{bound}/")
    config = uvicorn.Config(
        app,
        http=impatient(args.body_timeout),
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=30,
    )
    try:
        uvicorn.Server(config).run([listener])
    finally:
        app.state.close()
    return 0


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=2048)
    except OSError as error:
        raise ServeError(f"can't listen on {host}:{port}: {error.strerror or error}") from None

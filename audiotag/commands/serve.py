"""`audiotag serve`: an HTTP server for tags."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
import sys
from contextlib import nullcontext, suppress
from typing import Any

from audiotag.commands.tag import warn_if_untrained
from audiotag.console import say
from audiotag.errors import Error
from audiotag.options import number, precision

HELP = "answer HTTP requests with tags"
DESCRIPTION = "Answer HTTP requests with tags; the page at / tags a file or a recording."

EPILOG = """\
examples:
  audiotag serve                                            http://127.0.0.1:8000/
  curl --data-binary @clip.wav 'http://127.0.0.1:8000/tag?top=3'
  curl -F file=@clip.flac 'http://127.0.0.1:8000/tag?window=10&hop=5'

POST /tag answers with the object that --format jsonl writes, or with window= a list of
them. More parameters: threshold=, labels=; raw=, rate= and channels= for headerless samples;
name= for the path in the answer, spectrogram=1 for a picture; model= for one of several models.
POST /windows takes recordings of many hours and answers with a line for each window (window=,
hop=) while it is received and analysed: the scores of all classes.
GET /labels, /health, /metrics (Prometheus). The server listens on this machine only unless
--host is given. It has no authentication: put a proxy in front before others can reach it,
and name the proxy's host with --allow-host."""

STOP_SECONDS = 3
"""Time for answering requests in progress when the server is terminated."""


class ServeError(Error):
    """The server can't start."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument(
        "--model", action="append", dest="models", metavar="NAME|PATH",
        help="name, ONNX file or checkpoint (default: the bundled model); may be repeated: requests choose with model=",
    )  # fmt: skip
    parser.add_argument(
        "--precision", type=precision, default="float32", metavar="TYPE",
        help="of large products: float32 (default), or bfloat16 where the processor has it",
    )  # fmt: skip
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=port, default=8000, help="TCP port, 0 for any free one (default: 8000)")
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="host name that requests may use, beside IP addresses, localhost and --host; may be repeated",
    )
    parser.add_argument(
        "--workers",
        type=number,
        default=os.cpu_count() or 1,
        metavar="N",
        help="sounds tagged at the same time (default: the number of cores)",
    )
    parser.add_argument(
        "--max-mib",
        type=number,
        default=64,
        metavar="N",
        help="largest upload in MiB (default: 64); waiting uploads may take 32 times that, then the answer is 503",
    )
    parser.add_argument(
        "--max-seconds", type=number, default=600, metavar="N", help="longest sound in seconds (default: 600)"
    )
    parser.add_argument(
        "--max-hours",
        type=number,
        default=24,
        metavar="N",
        help="longest recording for the page and POST /windows, in hours (default: 24)",
    )
    parser.add_argument(
        "--max-gib",
        type=number,
        default=4,
        metavar="N",
        help="largest recording for the page and POST /windows, in GiB (default: 4); two may lie on disk at a time",
    )
    parser.add_argument(
        "--body-timeout",
        type=number,
        default=30,
        metavar="S",
        help="seconds for receiving the head of a request, and its body (default: 30)",
    )
    parser.add_argument(
        "--write-timeout",
        type=number,
        default=30,
        metavar="S",
        help="seconds after which a client that reads nothing of its answer is disconnected (default: 30)",
    )
    parser.add_argument(
        "--queue",
        type=number,
        default=2048,
        metavar="N",
        help="requests that may wait (default: 2048); further ones are answered with 503",
    )


def port(text: str) -> int:
    """Parse a TCP port."""
    value = int(text)
    if not 0 <= value < 1 << 16:
        raise argparse.ArgumentTypeError(f"{value} is not in 0..65535")
    return value


def run(args: argparse.Namespace) -> int:
    """Serve until interrupted or terminated."""
    try:
        import uvicorn

        from audiotag.serve.app import RequestLimits, make_app
        from audiotag.serve.connections import limited_protocol
        from audiotag.serve.decoders import Decoders
        from audiotag.serve.taggers import Taggers
    except ImportError as error:
        raise ServeError(f"{error.name} is missing: pip install 'tinyonnx[serve]'") from None
    from audiotag.crawl.job import resume_collection
    from audiotag.tagger import Tagger

    decoders = Decoders()
    decoders.start()
    try:
        taggers = Taggers([Tagger(model, precision=args.precision) for model in args.models or [None]])
        for tagger in taggers:
            _warm_up(tagger)
        resume_collection()
        for tagger in taggers:
            warn_if_untrained(tagger.model)
        limits = RequestLimits(
            args.max_mib << 20, args.max_seconds, args.body_timeout, args.queue,
            recording_bytes=args.max_gib << 30, recording_seconds=3600.0 * args.max_hours,
        )  # fmt: skip
        hosts = [args.host, socket.gethostname(), *args.allow_host]
        app = make_app(taggers, decoders, limits, args.workers, hosts)
        listener = _listen(args.host, args.port)
        host, bound = listener.getsockname()[:2]
        where = f"http://{f'[{host}]' if ':' in host else host}:{bound}/"
        config = uvicorn.Config(
            app,
            http=limited_protocol(args.body_timeout, args.write_timeout),
            ws="none",
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=STOP_SECONDS,
        )
        names = ", ".join(tagger.model.name for tagger in taggers)
        kind = "models" if len(args.models or ()) > 1 else "model"
        received = _serve(uvicorn.Server(config), listener, f"{kind} {names}, listening on {where}")
        if app.state.service.close():
            _exit_now(received)
    finally:
        decoders.close()
    if received == signal.SIGINT:
        raise KeyboardInterrupt
    return 0


def _warm_up(tagger: Any) -> None:
    """Tag a second of silence, so that no request waits for the compiler."""
    import numpy as np

    tagger.tag(np.zeros(tagger.rate, np.float32), tagger.rate)


def _serve(server: Any, listener: socket.socket, announcement: str) -> int | None:
    """Run the server until SIGINT or SIGTERM, which are handled from the announcement on; return the signal.

    uvicorn's own handling would raise the signal again at the end, and SIGTERM would kill the process.
    """
    received: int | None = None

    def stop(number: int, frame: Any) -> None:
        nonlocal received
        received = number
        # uvicorn would log a traceback for each request that is cut off
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL + 1)
        server.handle_exit(number, frame)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    server.capture_signals = nullcontext
    try:
        say(announcement)
        server.run([listener])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return received


def _exit_now(received: int | None) -> None:
    """End the process although a thread is still tagging: the interpreter would wait for it."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            with suppress(OSError):
                stream.flush()
    os._exit(130 if received == signal.SIGINT else 0)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=2048)
    except OSError as error:
        raise ServeError(f"can't listen on {host}:{port}: {error.strerror or error}") from None

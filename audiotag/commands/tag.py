"""`audiotag tag`: files, folders, patterns or standard input to tags."""

from __future__ import annotations

import argparse
import dataclasses
import glob
import os
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from audiotag import garbage, labels
from audiotag.console import on_terminal, say
from audiotag.crawl.job import Job, Options
from audiotag.errors import LabelError, printable
from audiotag.outputs import FORMATS, PARTS

if TYPE_CHECKING:
    from audiotag.crawl.pool import Pool
    from audiotag.events import EventOptions
    from audiotag.models.catalog import ResolvedModel
    from audiotag.results import Result
    from audiotag.sound.audio import RawFormat

DESCRIPTION = """\
Tag sound files (WAV, FLAC, OGG, Opus, MP3 and whatever else libsndfile reads, at any
sample rate and with any number of channels) with the 527 classes of AudioSet."""

EPILOG = """\
examples:
  audiotag tag clip.wav
  audiotag tag recordings/ --format jsonl --output tags.jsonl
  audiotag tag *.flac --labels 'Dog,Siren' --threshold 0.3
  sox clip.mp3 -t wav - | audiotag tag -
  audiotag tag - --raw s16le --rate 44100 --channels 2 < samples.raw
  audiotag tag day.flac --window 10 --top 3
  audiotag tag day.flac --events 'Dog=0.5:0.3,Siren=0.4' --format audacity --output labels.txt

A file that can't be read is reported on stderr (in JSONL by a line, too), all others
are done, and the exit code is 1."""


WINDOWS = """\
Windows begin at 0, HOP, 2 HOP ...; what is left at the end gets a window of full length, too,
that ends with the sound. A file that is shorter than a window gives one result. Results come as
soon as their window is complete, also of sound on standard input that never ends. Events need
no --window; theirs are 2 s, every 0.5 s."""


def add_parser(subparsers: Any) -> None:
    """Add the subcommand to the command line."""
    parser = subparsers.add_parser(
        "tag",
        help="tag sound files",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(run=run, parser=parser)
    parser.add_argument(
        "paths", nargs="*", metavar="PATH", help="file, folder, pattern or @list of files; - for standard input"
    )
    parser.add_argument("--files0-from", metavar="FILE", help="a list of files that end with NUL; - for standard input")
    parser.add_argument(
        "--model", metavar="NAME|PATH", help="a model's name or an ONNX file (default: the shipped one)"
    )
    parser.add_argument("--top", type=number, default=10, metavar="N", help="how many tags at most (default: 10)")
    parser.add_argument("--threshold", type=probability, metavar="P", help="leave out tags with a score below P")
    parser.add_argument("--labels", type=classes, metavar="A,B,...", help="consider these classes only (names or MIDs)")
    parser.add_argument("--embeddings", action="store_true", help="give the vectors behind the tags, too")
    parser.add_argument("--threads", type=number, default=1, metavar="N", help="threads that share a clip (default: 1)")
    parser.add_argument(
        "--format", choices=(*FORMATS, *PARTS), default="text", help="form of the results (default: text)"
    )
    parser.add_argument("--output", metavar="FILE", help="write results to FILE (default: -, standard output)")
    parser.add_argument("--activations", metavar="REPORT.html", help="show waveform, mel and every layer of one clip")
    time = parser.add_argument_group("what is heard when", WINDOWS)
    time.add_argument("--window", type=seconds, metavar="SECONDS", help="tag windows of that length, not whole files")
    time.add_argument("--hop", type=seconds, metavar="SECONDS", help="from window to window (default: their length)")
    time.add_argument(
        "--events",
        nargs="?",
        const="",
        metavar="[CLASS=]ON[:OFF],...",
        help="when sounds begin and end: where a class's score reaches ON, and falls below OFF (default: 0.5:0.3); "
        "classes may have thresholds of their own",
    )
    time.add_argument("--min-event", type=seconds, metavar="SECONDS", help="leave out shorter events")
    time.add_argument("--max-gap", type=seconds, metavar="SECONDS", help="join events with no more between them")
    parser.add_argument("--plot", metavar="OUT.png", help="draw one clip's spectrogram and what is heard when")
    batch = parser.add_argument_group("many files")
    batch.add_argument("--workers", type=number, metavar="N", help="processes, one thread each (default: this one)")
    batch.add_argument("--timeout", type=seconds, metavar="SECONDS", help="give up on a file after so long")
    batch.add_argument("--shard", type=shard, metavar="I/N", help="only the I-th of N parts of the files")
    there = batch.add_mutually_exclusive_group()
    there.add_argument("--resume", action="store_true", help="go on with the output that is there, if any")
    there.add_argument("--overwrite", action="store_true", help="throw away the output that is there")
    batch.add_argument(
        "--log-every", type=seconds, default=60.0, metavar="SECONDS", help="progress without a terminal (default: 60)"
    )
    raw = parser.add_argument_group("headerless samples on standard input")
    raw.add_argument("--raw", choices=("f32le", "s16le"), help="32-bit floats or 16-bit integers, little-endian")
    raw.add_argument("--rate", type=sample_rate, metavar="HZ", help="sample rate")
    raw.add_argument("--channels", type=number, metavar="N", help="interleaved channels (default: 1)")


def run(args: argparse.Namespace) -> int:
    """Tag everything and return the exit code."""
    _give_back(args)
    if args.output == "-":
        args.output = None
    options = _options(args)
    _check(args)
    from audiotag.crawl.signals import interruptible, undisturbed

    if args.plot is not None:
        from audiotag.pictures.plot import check, write_plot

        check(args.plot)
    job = Job(args.model, args.threads if args.workers is None else 1, options, args.format)
    with interruptible(), ExitStack() as stack:
        with undisturbed():  # modules may not survive an interrupt of their import
            pool = _pool(args, job)
        if pool:
            stack.enter_context(pool).start()
        with undisturbed():
            from audiotag.crawl import run as crawl
            from audiotag.crawl.inputs import Shard, lists_in
            from audiotag.crawl.progress import Progress

            if not pool:
                _ = job.tagger

        files = crawl.Files(lists_in(args.paths, args.files0_from), args.shard and Shard(*args.shard))
        model = pool.model() if pool else job.load()
        garbage.resume()
        warn_if_untrained(model)
        hint_at_full_size(model)
        output = stack.enter_context(
            crawl.open_output(args.output, job, files, model, resume=args.resume, overwrite=args.overwrite)
        )
        progress = Progress(output.n_done, output.failures, files.count, args.log_every)
        todo = crawl.remaining(files, output)
        events = pool.run(todo) if pool else crawl.in_process(job, todo, progress)
        # whatever ends the run, what decodes ends with it
        stack.callback(events.close)
        failed = crawl.write(events, job, output, progress, _watch(args, job))
        progress.finish()
        if args.plot is not None and not failed:
            write_plot(job.tagger, args.paths[0], options, args.plot)
    return 1 if failed or output.failures else 0


def _give_back(args: argparse.Namespace) -> None:
    """Make a path again of what argparse took for the value of --events, which needs none."""
    if args.events and (os.path.lexists(args.events) or args.events.startswith(("-", "@"))):
        args.paths.insert(0, args.events)
        args.events = ""


def _pool(args: argparse.Namespace, job: Job) -> Pool | None:
    if args.workers is None and args.timeout is None:
        return None
    from audiotag.crawl.pool import Pool

    return Pool(job, args.workers or 1, args.timeout)


def _watch(args: argparse.Namespace, job: Job) -> Callable[[Result], None] | None:
    if args.activations is None:
        return None
    from audiotag.pictures.activations import write_activations

    return lambda result: write_activations(job.tagger, result.path, result, args.activations)


def _check(args: argparse.Namespace) -> None:
    """Refuse options that don't go together."""
    error = args.parser.error
    stdin = args.paths.count("-") + args.paths.count("@-") + (args.files0_from == "-")
    if not args.paths and args.files0_from is None:
        error("the following arguments are required: PATH")
    if stdin > 1:
        error("standard input can be read once only")
    one = len(args.paths) == 1 and args.files0_from is None and _is_one_file(args.paths[0])
    if args.format == "audacity" and not one:
        error("--format audacity is for one file: labels don't name theirs")
    for name in ("activations", "plot"):
        if getattr(args, name) is not None and (not one or args.paths == ["-"]):
            error(f"--{name} shows one file")
        if getattr(args, name) is not None and (args.workers or args.timeout):
            error(f"--{name} goes without --workers and --timeout")
    if args.activations is not None and (args.window or args.events is not None):
        error("--activations shows a file in one piece, without --window and --events")
    if "-" in args.paths and (args.workers or args.timeout or args.resume):
        error("sound on standard input (-) goes without --workers, --timeout and --resume")
    if args.resume and args.output is None:
        error("--resume needs --output")


def _is_one_file(path: str) -> bool:
    """Whether it is no folder, list or pattern."""
    return not os.path.isdir(path) and (os.path.lexists(path) or not (path.startswith("@") or glob.has_magic(path)))


def warn_if_untrained(model: ResolvedModel) -> None:
    """Say on stderr that the scores of a model with random weights mean nothing."""
    if not model.trained:
        say(f"model {model.name}: {printable(model.note)}")


def hint_at_full_size(model: ResolvedModel) -> None:
    """Say on a terminal that there are better models than the one that ships with the package."""
    from audiotag.models.catalog import DEFAULT, FULL_SIZE

    if model.name == DEFAULT and on_terminal():
        say(f"model {DEFAULT}: small, for a quick start; for better tags: audiotag models pull {FULL_SIZE}")


def _options(args: argparse.Namespace) -> Options:
    _check_times(args)
    events = _events(args)
    window, hop = args.window, args.hop
    if events is not None and window is None:
        from audiotag.events import HOP, WINDOW

        window, hop = WINDOW, hop or HOP
    if window is not None:
        from audiotag.sound.windows import Grid

        try:
            Grid(window, hop or window)
        except ValueError as error:
            args.parser.error(f"--window, --hop: {error}")
    return Options(
        top=args.top,
        threshold=args.threshold,
        labels=args.labels,
        window=window,
        hop=hop,
        events=events,
        embeddings=args.embeddings or args.format == "npy",
        raw=_raw_format(args),
    )


def _check_times(args: argparse.Namespace) -> None:
    error = args.parser.error
    if args.hop is not None and args.window is None and args.events is None:
        error("--hop needs --window")
    if args.events is None and (args.min_event is not None or args.max_gap is not None):
        error("--min-event and --max-gap go with --events")
    if args.embeddings and args.format not in ("jsonl", "parquet", "npy"):
        error("--embeddings goes with --format jsonl, parquet or npy")
    if args.events is not None and (args.embeddings or args.format == "npy"):
        error("events have no embeddings")


def _events(args: argparse.Namespace) -> EventOptions | None:
    if args.events is None:
        return None
    from audiotag.events import EventOptions, parse

    options = EventOptions()
    try:
        options = parse(args.events) if args.events else options
    except (LabelError, ValueError) as error:
        args.parser.error(f"argument --events: {error}")
    return dataclasses.replace(options, min_duration=args.min_event or 0.0, max_gap=args.max_gap or 0.0)


def _raw_format(args: argparse.Namespace) -> RawFormat | None:
    if args.raw is None:
        if args.rate is not None or args.channels is not None:
            args.parser.error("--rate and --channels describe --raw samples: a file says its own")
        return None
    if args.paths != ["-"]:
        args.parser.error("--raw reads standard input: give - as the only PATH")
    if args.rate is None:
        args.parser.error("--raw needs --rate")
    from audiotag.sound.audio import RawFormat

    return RawFormat(args.raw, args.rate, args.channels or 1)


def number(text: str) -> int:
    """An argument that counts something; argparse calls it by the function's name."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not at least 1")
    return value


def sample_rate(text: str) -> int:
    """An argument in Hz."""
    from audiotag.sound.audio import MAX_RATE, MIN_RATE

    value = int(text)
    if not MIN_RATE <= value <= MAX_RATE:
        raise argparse.ArgumentTypeError(f"{value} Hz is not in {MIN_RATE}..{MAX_RATE} Hz")
    return value


def seconds(text: str) -> float:
    """An argument that is a length of time."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no positive number of seconds")
    return value


def shard(text: str) -> tuple[int, int]:
    """An argument I/N."""
    number, _, count = text.partition("/")
    value = int(number), int(count)
    if not 1 <= value[0] <= value[1]:
        raise argparse.ArgumentTypeError(f"{text} is not in 1/N to N/N")
    return value


def probability(text: str) -> float:
    """An argument from 0 to 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not in 0..1")
    return value


def classes(text: str) -> tuple[int, ...]:
    """An argument that lists classes of AudioSet."""
    try:
        return tuple(labels.select(text))
    except LabelError as error:
        raise argparse.ArgumentTypeError(str(error)) from None

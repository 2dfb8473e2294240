"""`audiotag tag`: tag files, folders, patterns or standard input."""

from __future__ import annotations

import argparse
import dataclasses
import glob
import os
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING

from audiotag.commands import add_model, check_outputs
from audiotag.console import on_terminal, say
from audiotag.crawl.job import Job, resume_collection
from audiotag.errors import LabelError, OutputError, printable
from audiotag.options import TAGS, WINDOWS, TagOptions, flags, number, seconds
from audiotag.outputs import ALL, PARTS, format_of

if TYPE_CHECKING:
    from audiotag.crawl.pool import Pool
    from audiotag.events import EventOptions
    from audiotag.labels import LabelSet
    from audiotag.models.catalog import ResolvedModel
    from audiotag.results import Result
    from audiotag.sound.audio import RawFormat

HELP = "tag sound files"

DESCRIPTION = """\
Tag sound files (WAV, FLAC, OGG, Opus, MP3 and all other formats that libsndfile reads, at any
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

A file that can't be read is reported on stderr (with JSONL also as a row); all other files
are tagged, and the exit code is 1."""

WINDOW_HELP = """\
Windows start at 0, HOP, 2 HOP and so on. Samples left at the end get a window of full length
that ends with the sound. A file shorter than one window gives one result. Each result is written
as soon as its window is complete, also for endless sound on standard input. Events do not
need --window: by default they use the frame-wise scores of the model, or windows of 2 s every 0.5 s."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.set_defaults(**dataclasses.asdict(TagOptions()))
    parser.add_argument(
        "paths", nargs="*", metavar="PATH", help="file, folder, pattern or @list of files; - for standard input"
    )
    parser.add_argument("--files0-from", metavar="FILE", help="list of files separated by NUL; - for standard input")
    add_model(parser)
    for field, flag in flags(TAGS):
        flag.add_to(parser, field)
    parser.add_argument("--threads", type=number, default=1, metavar="N", help="threads per clip (default: 1)")
    parser.add_argument(
        "--format", choices=tuple(ALL), help="output format (default: by the suffix of --output, or text)"
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="write results to FILE (default: -, standard output)")
    parser.add_argument(
        "--activations", metavar="REPORT.html", help="write a page with waveform, log-mel and all layers of one clip"
    )
    time = parser.add_argument_group("windows and events", WINDOW_HELP)
    for field, flag in flags(WINDOWS):
        flag.add_to(time, field)
    time.add_argument(
        "--events",
        nargs="?",
        const="",
        metavar="[CLASS=]ON[:OFF],...",
        help="report when classes begin and end: at scores of at least ON, and below OFF (default: 0.5:0.3); "
        "thresholds may be given per class",
    )
    time.add_argument("--min-event", type=seconds, metavar="SECONDS", help="omit shorter events")
    time.add_argument("--max-gap", type=seconds, metavar="SECONDS", help="join events of a class with a smaller gap")
    parser.add_argument("--plot", metavar="OUT.png", help="draw spectrogram and class scores over time of one clip")
    batch = parser.add_argument_group("many files")
    batch.add_argument("--workers", type=number, metavar="N", help="worker processes, one thread each (default: none)")
    batch.add_argument("--timeout", type=seconds, metavar="SECONDS", help="maximum time per file")
    batch.add_argument("--shard", type=shard, metavar="I/N", help="only the I-th of N parts of the files")
    existing = batch.add_mutually_exclusive_group()
    existing.add_argument("--resume", action="store_true", help="resume from an existing output file")
    existing.add_argument("--overwrite", action="store_true", help="overwrite an existing output file")
    batch.add_argument(
        "--log-every",
        type=seconds,
        default=60.0,
        metavar="SECONDS",
        help="seconds between progress lines when stderr is not a terminal (default: 60)",
    )
    raw = parser.add_argument_group("headerless samples on standard input")
    raw.add_argument("--raw", choices=("f32le", "s16le"), help="32-bit floats or 16-bit integers, little-endian")
    raw.add_argument("--rate", type=sample_rate, metavar="HZ", help="sample rate")
    raw.add_argument("--channels", type=number, metavar="N", help="number of interleaved channels (default: 1)")


def run(args: argparse.Namespace) -> int:
    """Tag all files and return the exit code."""
    _restore_path(args)
    if args.output == "-":
        args.output = None
    args.format = args.format or format_of(args.output)
    options = _options(args)
    _check(args)
    _check_pictures(args)
    if options.window and options.hop and options.hop > options.window:
        say(f"windows of {options.window:g} s every {options.hop:g} s: the sound between them is not tagged")
    return _tag(args, Job(args.model, args.threads if args.workers is None else 1, options, args.format))


def _check_pictures(args: argparse.Namespace) -> None:
    """Refuse, before the work, pictures that can't be drawn or written. Raises OutputError, Error."""
    if args.plot is not None:
        from audiotag.pictures.plot import check

        try:
            check(args.plot)
        except OutputError as error:
            args.parser.error(f"argument --plot: {error}")
    check_outputs(files=[args.plot, args.activations])


def _tag(args: argparse.Namespace, job: Job) -> int:
    """Write the rows of all files, in this process or in workers, and return the exit code."""
    from audiotag.crawl.signals import deferred, interruptible

    with interruptible(), ExitStack() as stack:
        with deferred():  # an interrupted import may leave a module unusable
            pool = _pool(args, job)
        if pool:
            stack.enter_context(pool).start()
        with deferred():
            from audiotag.crawl import run as crawl
            from audiotag.crawl.inputs import Shard, lists_in
            from audiotag.crawl.progress import Progress

            if not pool:
                _ = job.tagger

        files = crawl.Files(lists_in(args.paths, args.files0_from), args.shard and Shard(*args.shard))
        model = pool.model() if pool else job.load()
        resume_collection()
        warn_if_untrained(model)
        if not pool and job.tagger.network.precision != job.options.precision:
            say(f"runs {job.tagger.network.precision}: this processor lacks AVX512-BF16")
        hint_at_full_size(model)
        output = stack.enter_context(
            crawl.open_output(
                args.output,
                job,
                files,
                model,
                resume=args.resume,
                overwrite=args.overwrite,
                one_file=not args.resume and _one_file(args),
            )
        )
        progress = Progress(output.n_done, output.failures, files.count, args.log_every)
        todo = crawl.remaining(files, output)
        events = pool.run(todo) if pool else crawl.in_process(job, todo, progress)
        # an open decoder must be closed however the run ends
        stack.callback(events.close)
        failed = crawl.write(events, job, output, progress, _watch(args, job))
        progress.finish()
        if args.plot is not None and not failed:
            from audiotag.pictures.plot import write_plot

            write_plot(job.tagger, args.paths[0], job.options, args.plot)
    return 1 if failed or output.failures else 0


def _restore_path(args: argparse.Namespace) -> None:
    """Move a path that argparse took for the optional value of --events back to the paths."""
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
    """Refuse combinations of options that are not possible, with exit code 2."""
    error = args.parser.error
    stdin = args.paths.count("-") + args.paths.count("@-") + (args.files0_from == "-")
    if not args.paths and args.files0_from is None:
        error("the following arguments are required: PATH")
    if stdin > 1:
        error("standard input (-) is given twice")
    one = _one_file(args)
    if args.format in PARTS and args.output is None:
        error(f"--format {args.format} writes a folder: --output FOLDER is needed")
    if ALL[args.format].one_clip and not one:
        error(f"--format {args.format} takes a single file: its rows do not name their file")
    for name in ("activations", "plot"):
        if getattr(args, name) is not None and (not one or args.paths == ["-"]):
            error(f"--{name} takes a single file")
        if getattr(args, name) is not None and (args.workers or args.timeout):
            error(f"--{name} can't be combined with --workers or --timeout")
    if args.activations is not None and (args.window or args.events is not None):
        error("--activations can't be combined with --window or --events")
    if "-" in args.paths and (args.workers or args.timeout or args.resume):
        error("sound on standard input (-) can't be combined with --workers, --timeout or --resume")
    if args.resume and args.output is None:
        error("--resume needs --output")


def _one_file(args: argparse.Namespace) -> bool:
    """Return whether the arguments name a single file rather than several, a folder, list or pattern."""
    if len(args.paths) != 1 or args.files0_from is not None:
        return False
    path = args.paths[0]
    return not os.path.isdir(path) and (os.path.lexists(path) or not (path.startswith("@") or glob.has_magic(path)))


def warn_if_untrained(model: ResolvedModel) -> None:
    """Warn on stderr if the model has random weights, so that its scores mean nothing."""
    if not model.trained:
        say(f"model {model.name}: {printable(model.note)}")


def hint_at_full_size(model: ResolvedModel) -> None:
    """Recommend a larger model on a terminal if the bundled one is used."""
    from audiotag.models.catalog import DEFAULT, FULL_SIZE

    if model.name == DEFAULT and on_terminal():
        say(f"model {DEFAULT} is small; for better tags: audiotag models pull {FULL_SIZE}")


def _options(args: argparse.Namespace) -> TagOptions:
    """Build the options from all flags; those made of several arguments are composed here."""
    _check_times(args)
    events = _events(args)
    window, hop = args.window, args.hop
    if window is not None or hop is not None:
        from audiotag.events import WINDOW
        from audiotag.sound.windows import Grid

        try:
            Grid(window or WINDOW, hop or window or WINDOW)
        except ValueError as error:
            args.parser.error(f"--window, --hop: {error}")
    declared = {field: getattr(args, field) for field, _ in flags()}
    composed = {
        "labels": _labels(args),
        "events": events,
        "embeddings": args.embeddings or ALL[args.format].embeddings == "always",
        "raw": _raw_format(args),
    }
    return TagOptions(**declared | composed)


def _check_times(args: argparse.Namespace) -> None:
    error = args.parser.error
    if args.hop is not None and args.window is None and args.events is None:
        error("--hop needs --window")
    if args.events is None and (args.min_event is not None or args.max_gap is not None):
        error("--min-event and --max-gap need --events")
    embeddings = ALL[args.format].embeddings
    if args.embeddings and embeddings == "never":
        able = ", ".join(name for name, format in ALL.items() if format.embeddings != "never")
        error(f"--format {args.format} has no embeddings; formats that have: {able}")
    if args.events is not None and (args.embeddings or embeddings == "always"):
        error("events have no embeddings")


def _known(args: argparse.Namespace) -> LabelSet:
    """Return the classes of the model. Raises ModelError."""
    from audiotag.models.catalog import resolve

    return resolve(args.model).labels


def _labels(args: argparse.Namespace) -> tuple[int, ...] | None:
    if args.labels is None:
        return None
    try:
        return tuple(_known(args).select(args.labels))
    except LabelError as error:
        args.parser.error(f"argument --labels: {error}")
    return None


def _events(args: argparse.Namespace) -> EventOptions | None:
    if args.events is None:
        return None
    from audiotag.events import EventOptions, parse

    options = EventOptions()
    try:
        options = parse(args.events, _known(args) if "=" in args.events else None) if args.events else options
    except (LabelError, ValueError) as error:
        args.parser.error(f"argument --events: {error}")
    return dataclasses.replace(options, min_duration=args.min_event or 0.0, max_gap=args.max_gap or 0.0)


def _raw_format(args: argparse.Namespace) -> RawFormat | None:
    if args.raw is None:
        if args.rate is not None or args.channels is not None:
            args.parser.error("--rate and --channels need --raw: files contain their own rate and channels")
        return None
    if args.paths != ["-"]:
        args.parser.error("--raw reads standard input: - must be the only PATH")
    if args.rate is None:
        args.parser.error("--raw needs --rate")
    from audiotag.sound.audio import RawFormat

    return RawFormat(args.raw, args.rate, args.channels or 1)


def sample_rate(text: str) -> int:
    """Parse a sample rate in Hz."""
    from audiotag.sound.audio import MAX_RATE, MIN_RATE

    value = int(text)
    if not MIN_RATE <= value <= MAX_RATE:
        raise argparse.ArgumentTypeError(f"{value} Hz is not in {MIN_RATE}..{MAX_RATE} Hz")
    return value


def shard(text: str) -> tuple[int, int]:
    """Parse a shard I/N."""
    number, _, count = text.partition("/")
    value = int(number), int(count)
    if not 1 <= value[0] <= value[1]:
        raise argparse.ArgumentTypeError(f"{text} is not in 1/N to N/N")
    return value

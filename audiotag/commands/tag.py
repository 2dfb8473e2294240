"""`audiotag tag`: files, folders, patterns or standard input to tags."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from audiotag import labels
from audiotag.errors import AudioError, LabelError, OutputError, printable
from audiotag.messages import Progress, on_terminal, say
from audiotag.outputs import FORMATS, PARTS
from audiotag.results import Failure, Result
from audiotag.sinks import open_sink
from audiotag.work import Options, rows_of

if TYPE_CHECKING:
    from audiotag.audio import RawFormat
    from audiotag.models import ResolvedModel

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

A file that can't be read is reported on stderr (in JSONL by a line, too), all others
are done, and the exit code is 1."""


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
    parser.add_argument("paths", nargs="+", metavar="PATH", help="file, folder or pattern; - for standard input")
    parser.add_argument(
        "--model", metavar="NAME|PATH", help="a model's name or an ONNX file (default: the shipped one)"
    )
    parser.add_argument("--top", type=number, default=10, metavar="N", help="how many tags at most (default: 10)")
    parser.add_argument("--threshold", type=probability, metavar="P", help="leave out tags with a score below P")
    parser.add_argument("--labels", type=classes, metavar="A,B,...", help="consider these classes only (names or MIDs)")
    parser.add_argument("--threads", type=number, default=1, metavar="N", help="threads that share a clip (default: 1)")
    parser.add_argument(
        "--format", choices=(*FORMATS, *PARTS), default="text", help="form of the results (default: text)"
    )
    parser.add_argument("--output", metavar="FILE", help="write results to FILE (default: standard output)")
    parser.add_argument("--activations", metavar="REPORT.html", help="show waveform, mel and every layer of one clip")
    raw = parser.add_argument_group("headerless samples on standard input")
    raw.add_argument("--raw", choices=("f32le", "s16le"), help="32-bit floats or 16-bit integers, little-endian")
    raw.add_argument("--rate", type=sample_rate, metavar="HZ", help="sample rate")
    raw.add_argument("--channels", type=number, metavar="N", help="interleaved channels (default: 1)")


def run(args: argparse.Namespace) -> int:
    """Tag everything and return the exit code."""
    options = _options(args)
    if args.activations is not None and (len(args.paths) > 1 or args.paths == ["-"] or os.path.isdir(args.paths[0])):
        args.parser.error("--activations shows one file")
    from audiotag.inputs import expand
    from audiotag.tagger import Tagger

    tagger = Tagger(args.model, args.threads)
    _ = tagger.network
    warn_if_untrained(tagger.model)
    hint_at_full_size(tagger.model)
    progress = Progress()
    failed = False
    paths = expand(args.paths)
    if args.output is not None and os.path.exists(args.output):
        paths = iter(_spare(args.output, list(paths), tagger.model))
    with open_sink(args.format, args.output, options) as sink:
        for path in paths:
            rows: Iterable[Result | Failure]
            if isinstance(path, AudioError):
                rows = [Failure.of(path.name, path)]
            else:
                progress.start(path)
                rows = rows_of(tagger, path, options)
            for row in rows:
                progress.clear()
                if isinstance(row, Failure):
                    failed = True
                    say(str(row))
                sink.write(row)
                if args.activations is not None and isinstance(row, Result):
                    from audiotag.activations import write_activations

                    write_activations(tagger, row.path, row, args.activations)
    return 1 if failed else 0


def _spare(output: str, paths: list[str | AudioError], model: ResolvedModel) -> list[str | AudioError]:
    """The paths, if writing to `output` would destroy none of them, nor the model."""
    sources = [path for path in (*paths, model.source) if isinstance(path, str) and os.path.exists(path)]
    same = next((source for source in sources if os.path.samefile(source, output)), None)
    if same is not None and os.path.isfile(same):
        raise OutputError(output, f"is also read, as {same}: results would overwrite it")
    return paths


def warn_if_untrained(model: ResolvedModel) -> None:
    """Say on stderr that the scores of a model with random weights mean nothing."""
    if not model.trained:
        say(f"model {model.name}: {printable(model.note)}")


def hint_at_full_size(model: ResolvedModel) -> None:
    """Say on a terminal that there are better models than the one that ships with the package."""
    from audiotag.models import DEFAULT, FULL_SIZE

    if model.name == DEFAULT and on_terminal():
        say(f"model {DEFAULT}: small, for a quick start; for better tags: audiotag models pull {FULL_SIZE}")


def _options(args: argparse.Namespace) -> Options:
    return Options(top=args.top, threshold=args.threshold, labels=args.labels, raw=_raw_format(args))


def _raw_format(args: argparse.Namespace) -> RawFormat | None:
    if args.paths.count("-") > 1:
        args.parser.error("standard input (-) can be read once only")
    if args.raw is None:
        if args.rate is not None or args.channels is not None:
            args.parser.error("--rate and --channels describe --raw samples: a file says its own")
        return None
    if args.paths != ["-"]:
        args.parser.error("--raw reads standard input: give - as the only PATH")
    if args.rate is None:
        args.parser.error("--raw needs --rate")
    from audiotag.audio import RawFormat

    return RawFormat(args.raw, args.rate, args.channels or 1)


def number(text: str) -> int:
    """An argument that counts something; argparse calls it by the function's name."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not at least 1")
    return value


def sample_rate(text: str) -> int:
    """An argument in Hz."""
    from audiotag.audio import MAX_RATE, MIN_RATE

    value = int(text)
    if not MIN_RATE <= value <= MAX_RATE:
        raise argparse.ArgumentTypeError(f"{value} Hz is not in {MIN_RATE}..{MAX_RATE} Hz")
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

"""`audiotag train`: a model of your own classes from examples."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from audiotag.console import say, show
from audiotag.errors import ModelError, OutputError, printable

if TYPE_CHECKING:
    from audiotag.tagger import Tagger

HELP = "make a model of your own classes"

DESCRIPTION = """\
Train a model of your own classes from examples: a sub-folder of sounds for each class, or a table.
The result is one ONNX file that tag, serve and standalone take with --model."""

EPILOG = """\
examples:
  audiotag train sounds/ -o mine.onnx                 sounds/owl/*.wav, sounds/fox/*.wav, ...
  audiotag train sounds/ -o mine.onnx --negatives other/
  audiotag train sounds/ --labels table.csv -o mine.onnx     columns path and label ("owl;fox")

The figures printed are of sounds left out of the training, one at a time. Cut recordings with several
sounds into clips first: similar clips of one recording make the figures too good."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("folder", metavar="FOLDER", help="sounds, in a sub-folder for each class")
    parser.add_argument("-o", "--output", required=True, metavar="OUT.onnx", help="path of the model")
    parser.add_argument(
        "--backbone", metavar="NAME|PATH", help="model whose embeddings are used (default: the bundled model)"
    )
    parser.add_argument("--labels", metavar="TABLE.csv", help="table of paths below FOLDER and their labels")
    parser.add_argument("--negatives", metavar="FOLDER", help="sounds of none of the classes")


def run(args: argparse.Namespace) -> int:
    """Train the model; return 1 if sounds could not be read."""
    from audiotag.crawl.job import resume_collection
    from audiotag.learning.embeddings import embed_all
    from audiotag.learning.examples import read_folder, read_table
    from audiotag.learning.head import train_head
    from audiotag.learning.model import assemble
    from audiotag.tagger import Tagger
    from tinyonnx import Error as EngineError
    from tinyonnx import save_model

    if args.labels is None:
        examples = read_folder(args.folder, args.negatives)
    else:
        examples = read_table(args.labels, args.folder, args.negatives)
    tagger = Tagger(args.backbone)
    _check_output(args.output, tagger)
    resume_collection()
    count = len(examples.paths)
    try:
        embeddings, failures = embed_all(tagger, examples.paths, lambda done: show(f"{done} of {count} sounds"))
    finally:
        show("")
    for failure in failures.values():
        say(str(failure))
    rows = [row for row in range(count) if row not in failures]
    examples = examples.without(list(failures))
    head = train_head(embeddings[rows], examples)
    facts = {"backbone": {"name": tagger.model.name, "sha256": tagger.model.sha256}, "sounds": len(rows)}
    try:
        save_model(assemble(tagger.network, head, facts), args.output)
    except OSError as error:
        raise OutputError(args.output, error.strerror or str(error)) from None
    except EngineError as error:
        raise ModelError(printable(str(error))) from None
    print(f"{len(rows)} sounds, {len(examples.classes)} classes; figures of sounds left out of the training:")
    print("\n".join(printable(line) for line in head.figures.lines()))
    print(f"{printable(args.output)}: written; audiotag tag --model {printable(args.output)} YOUR_FILE")
    return 1 if failures else 0


def _check_output(path: str, tagger: Tagger) -> None:
    """Refuse, before the work, a place where the model can't be written or that is the backbone's.

    Raises OutputError, ModelError.
    """
    from tinyonnx import Error as EngineError
    from tinyonnx.files import target_of

    source = tagger.model.source
    if isinstance(source, str) and os.path.exists(path) and os.path.samefile(path, source):
        raise OutputError(path, "is the backbone itself")
    try:
        target_of(path)
    except OSError as error:
        raise OutputError(path, error.strerror or str(error)) from None
    except EngineError as error:
        raise ModelError(printable(str(error))) from None

"""`audiotag evaluate`: measures a model on labelled sounds."""

from __future__ import annotations

import argparse
import os

from audiotag.commands import check_outputs
from audiotag.console import say, show
from audiotag.errors import LabelError, OutputError, printable

HELP = "measure a model on labelled sounds"

DESCRIPTION = """\
Print how well a model tags labelled sounds: accuracy, average precision of each class, calibration,
and which classes are confused. The table is CSV with the columns path and label; several labels are
separated by ";", and paths are relative to the table."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("model", metavar="NAME|PATH", help="name, ONNX file or checkpoint")
    parser.add_argument("table", metavar="LABELS.csv", help="table of sounds and their labels")
    parser.add_argument("--html", metavar="OUT.html", help="also write a page with all figures")


def run(args: argparse.Namespace) -> int:
    """Evaluate the model; return 1 if sounds could not be read."""
    from audiotag.crawl.job import resume_collection
    from audiotag.learning.evaluation import evaluate, page
    from audiotag.learning.examples import read_table
    from audiotag.tagger import Tagger
    from tinyonnx.files import write_text

    check_outputs(files=[args.html])
    examples = read_table(args.table)
    tagger = Tagger(args.model)
    resume_collection()
    count = len(examples.paths)
    try:
        figures, failures = evaluate(tagger, examples, lambda done: show(f"{done} of {count} sounds"))
    except LabelError as error:
        raise LabelError(printable(f"{args.table}: {error}")) from None
    finally:
        show("")
    for failure in failures:
        say(str(failure))
    print(f"{printable(tagger.model.name)}: {count - len(failures)} sounds, {len(examples.classes)} classes")
    print("\n".join(printable(line) for line in figures.lines()))
    if args.html is not None:
        try:
            write_text(args.html, page(figures, tagger.model.name, os.path.basename(args.table)))
        except OSError as error:
            raise OutputError(args.html, error.strerror or str(error)) from None
    return 1 if failures else 0

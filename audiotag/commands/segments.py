"""`audiotag segments`: cuts detections out of their recordings."""

from __future__ import annotations

import argparse
from typing import Any

from audiotag.commands import check_outputs
from audiotag.console import say
from audiotag.errors import AudioError, printable
from audiotag.options import number, probability, seconds

HELP = "cut detections out of recordings"

DESCRIPTION = """\
Cut the detections in results of audiotag tag (JSONL or CSV, best with --events or --window) out of their
recordings: WAV files in a sub-folder for each class, named by score, for listening and for training."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("results", metavar="RESULTS", help="JSONL or CSV of audiotag tag")
    parser.add_argument("-o", "--output", required=True, metavar="DIR", help="folder for the clips")
    parser.add_argument("--threshold", type=probability, default=0.0, metavar="P", help="omit detections below P")
    parser.add_argument("--top", type=number, metavar="N", help="only the best N of each class")
    parser.add_argument("--margin", type=seconds, default=0.0, metavar="SECONDS", help="sound before and after")


def run(args: argparse.Namespace) -> int:
    """Cut the detections; return 1 if recordings could not be read or are too short."""
    from audiotag.crawl.job import resume_collection
    from audiotag.search.cut import best_of_each, cut, read_detections

    check_outputs(folders=[args.output])
    detections = [found for found in read_detections(args.results) if found.score >= args.threshold]
    by_path: dict[str, list[Any]] = {}
    for detection in best_of_each(detections, args.top):
        by_path.setdefault(detection.path, []).append(detection)
    resume_collection()
    written, failed, short = 0, 0, 0
    taken: set[str] = set()
    for path, chosen in sorted(by_path.items()):
        try:
            files = cut(path, chosen, args.margin, args.output, taken)
        except AudioError as error:
            say(str(error))
            failed += 1
            continue
        written += len(files)
        if len(files) < len(chosen):
            say(printable(f"{path}: ends before {len(chosen) - len(files)} of its {len(chosen)} detections"))
            short += 1
    print(f"{printable(args.output)}: {written} clips of {len(by_path) - failed} recordings")
    return 1 if failed or short else 0

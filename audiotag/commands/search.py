"""`audiotag search`: sounds that are like a clip."""

from __future__ import annotations

import argparse

from audiotag.commands import check_outputs
from audiotag.errors import OutputError, printable
from audiotag.options import number

HELP = "find sounds like a clip"

DESCRIPTION = """\
Find the results whose sound is most like a clip, by the similarity of embeddings. Results are those of
audiotag tag --embeddings (JSONL, Parquet) or --format npy, or an index made of them with --save."""

EPILOG = """\
examples:
  audiotag tag recordings/ --window 5 --format npy --output parts/
  audiotag search owl.wav --in parts/
  audiotag search owl.wav --in parts/ --save index/       faster from now on: --in index/"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("clip", metavar="CLIP", help="sound file")
    parser.add_argument(
        "--in", dest="results", required=True, metavar="RESULTS", help="results with embeddings, or index"
    )
    parser.add_argument("--top", type=number, default=10, metavar="N", help="number of results (default: 10)")
    parser.add_argument(
        "--model", metavar="NAME|PATH", help="model that made the embeddings (default: the bundled model)"
    )
    parser.add_argument("--save", metavar="FOLDER", help="write the results as an index")


def run(args: argparse.Namespace) -> int:
    """Print the nearest results."""
    from audiotag.search.embeddings import SearchError, nearest, open_results
    from audiotag.search.index import write_index
    from audiotag.tagger import Tagger

    check_outputs(folders=[args.save])
    results = open_results(args.results)
    tagger = Tagger(args.model)
    vector = tagger.embed(args.clip)
    found = nearest(results, vector, args.top)
    for made in (row.get("model") or {} for _, row in found):
        if made.get("sha256", tagger.model.sha256) != tagger.model.sha256:
            raise SearchError(
                printable(
                    f"{args.results}: made with the model {made.get('name')}, not {tagger.model.name}; "
                    f"use --model {made.get('name')}"
                )
            )
    if args.save is not None:
        try:
            count = write_index(results, args.save)
        except OSError as error:
            raise OutputError(args.save, error.strerror or str(error)) from None
        print(f"{printable(args.save)}: {count} rows")
    for similarity, row in found:
        tags = ", ".join(f"{tag['score']:.2f} {tag['label']}" for tag in (row.get("tags") or ())[:3])
        print(printable(f"{similarity:.4f}  {row['path']}  {row['start']:.2f}-{row['end']:.2f}  {tags}"))
    return 0

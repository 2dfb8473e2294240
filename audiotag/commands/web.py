"""`audiotag web`: writes a static page that tags sounds in the browser."""

from __future__ import annotations

import argparse
from pathlib import Path

from audiotag.commands import add_model, check_outputs
from audiotag.errors import OutputError, printable
from audiotag.options import precision

HELP = "write a static page that tags sounds in the browser"

DESCRIPTION = """\
Write a static page that tags sound files and the microphone in the browser, with the model as
WebAssembly. Any web server can serve the folder; no sound leaves the browser, and after the
first visit the page works without a network. Building it needs the package ziglang
(pip install 'tinyonnx[standalone]')."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    add_model(parser)
    parser.add_argument(
        "--precision", type=precision, default="float32", metavar="TYPE",
        help="of the weights of large products: float32 (default), or bfloat16, for a page half as large",
    )  # fmt: skip
    parser.add_argument("-o", "--output", required=True, metavar="DIR", help="folder of the page")


def run(args: argparse.Namespace) -> int:
    """Write the page and return the exit code."""
    from audiotag.models.catalog import resolve
    from audiotag.web.site import build_site

    _check_output(Path(args.output))
    try:
        written = build_site(resolve(args.model), Path(args.output), args.precision)
        files = [(file, file.stat().st_size) for file in written]
    except OSError as error:
        raise OutputError(args.output, error.strerror or str(error)) from None
    print(f"{printable(args.output)}: {len(files)} files, {sum(size for _, size in files):,} bytes")
    return 0


def _check_output(folder: Path) -> None:
    """Refuse, before the work, a folder that can't be written or has another page. Raises OutputError."""
    check_outputs(folders=[str(folder), str(folder / "page")])
    if (folder / "index.html").exists() and not (folder / "tagger.wasm").exists():
        raise OutputError(str(folder), "holds another page, which would be overwritten")

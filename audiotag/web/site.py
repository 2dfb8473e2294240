"""The files of the page."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from audiotag.standalone.build import PROGRAM, build_program
from tinyonnx.files import write_file

if TYPE_CHECKING:
    from audiotag.models.catalog import ResolvedModel

_HERE = Path(__file__).parent

_PAGE = ("index.html", "page.css", "page.js", "results.js", "worker.js", "microphone.js")


def build_site(model: ResolvedModel, folder: Path) -> list[Path]:
    """Write the page for a model into a folder, which is made if it is absent; return the files written.

    Raises ModelError if the model is not a tagger or can't be compiled, OSError if a file can't be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    contents = {name: (_HERE / name).read_bytes() for name in _PAGE}
    contents[PROGRAM.name] = PROGRAM.read_bytes()
    with tempfile.TemporaryDirectory() as built:
        module, _ = build_program(model, Path(built) / "tagger.wasm", "wasm")
        contents[module.name] = module.read_bytes()
    digest = hashlib.sha256(b"".join(contents.values())).hexdigest()[:16]
    contents["offline.js"] = (_HERE / "offline.js").read_bytes().replace(b"VERSION", digest.encode())
    for name, content in contents.items():
        write_file(folder / name, content)
    return [folder / name for name in contents]

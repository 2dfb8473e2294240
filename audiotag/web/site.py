"""The files of the page."""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from audiotag import __version__
from audiotag.standalone.build import PROGRAM, build_program
from tinyonnx.files import write_file

if TYPE_CHECKING:
    from audiotag.models.catalog import ResolvedModel

_HERE = Path(__file__).parent

_PAGE = _HERE.parent / "page"
"""The page that `audiotag serve` has, too, without its engine."""

_POLICY = "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; media-src 'self' blob:; img-src 'self' data:"
"""Content security policy of the page."""


def build_site(model: ResolvedModel, folder: Path, precision: str = "float32") -> list[Path]:
    """Write the page for a model into a folder, which is made if it is absent; return the files written.

    With the precision "bfloat16" the weights take two bytes: the page is loaded sooner.

    Raises ModelError if the model is not a tagger or can't be compiled, OSError if a file can't be written.
    """
    with tempfile.TemporaryDirectory() as built:
        module, _ = build_program(model, Path(built) / "tagger.wasm", "wasm", precision)
        contents = {module.name: module.read_bytes(), PROGRAM.name: PROGRAM.read_bytes()}
    facts = {"model": model.name, "version": __version__, "labels": [label.name for label in model.labels]}
    contents["page/model.json"] = json.dumps(facts, ensure_ascii=False).encode()
    for part in (*sorted(_PAGE.iterdir()), _HERE / "engine.js", _HERE / "worker.js"):
        if part.name != "index.html" and part.is_file():
            contents[f"page/{part.name}"] = part.read_bytes()
    policy = f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n<title>'
    contents["index.html"] = (_PAGE / "index.html").read_text(encoding="utf-8").replace("<title>", policy, 1).encode()
    digest = hashlib.sha256(b"".join(contents.values())).hexdigest()[:16]
    offline = (_HERE / "offline.js").read_text(encoding="utf-8").replace("VERSION", digest)
    contents["offline.js"] = offline.replace("NAMES", json.dumps(sorted(contents))).encode()
    (folder / "page").mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        write_file(folder / name, content)
    return [folder / name for name in contents]

"""For programs: one JSON object a line, failures too."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from audiotag.crawl.job import Options
    from audiotag.results import Failure, Result


class JsonlEncoder:
    """JSON lines."""

    def __init__(self, options: Options) -> None:
        pass

    def header(self) -> str:
        return ""

    def encode(self, row: Result | Failure) -> str:
        return json.dumps(row.to_dict()) + "\n"

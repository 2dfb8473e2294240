"""JSON Lines: one JSON object per result or failure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from audiotag.outputs.interface import Encoder

if TYPE_CHECKING:
    from audiotag.results import Failure, Result


class JsonlEncoder(Encoder):
    """One line per row: `to_dict()` of the result or failure."""

    embeddings = "optional"

    def encode(self, row: Result | Failure) -> str:
        return json.dumps(row.to_dict()) + "\n"

"""Ready descriptions of published families of models, one module each with a function `descriptions`."""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from audiotag.models.description import Description


def descriptions() -> dict[str, Description]:
    """Return all ready descriptions by name; their classes are AudioSet's unless the family has others."""
    found: dict[str, Description] = {}
    for module in pkgutil.iter_modules(__path__, f"{__name__}."):
        found |= importlib.import_module(module.name).descriptions()
    return found

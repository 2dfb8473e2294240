"""Checkpoints to described models."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from audiotag.errors import ModelError, printable
from audiotag.models.checkpoint import read_checkpoint
from audiotag.models.description import KEY, ClassLabel, efficientat
from audiotag.models.dymn import graph_from_dynamic_state
from audiotag.models.families import descriptions
from audiotag.models.families.efficientat import variant
from audiotag.models.frame_mobilenet import graph_from_frame_state, is_frame_wise
from audiotag.models.labels_file import read_labels
from audiotag.models.mobilenet import graph_from_state
from audiotag.models.panns import graph_from_panns_state, is_panns
from audiotag.models.transformer import graph_from_transformer_state, is_transformer

if TYPE_CHECKING:
    from tinyonnx import Graph
    from tinyonnx.ir import Array

_PREFIX = "module."
"""Prefix of all tensors of a model that was trained on several processors."""


def graph_of(
    checkpoint: Path,
    name: str,
    labels: str | os.PathLike[str] | None = None,
    hop: float | None = None,
    bins: int | None = None,
) -> Graph:
    """Build the described graph of a checkpoint of EfficientAT, EfficientSED, PANNs or CED.

    Args:
        checkpoint: the file.
        name: its published name, which tells the hop, number of mel bands and strides of a variant.
        labels: file with the classes of a fine-tuned model.
        hop: distance of frames in milliseconds, if the name does not tell it.
        bins: number of mel bands, likewise.

    Raises ModelError.
    """
    own = None if labels is None else read_labels(labels)
    state = _without_prefix(read_checkpoint(checkpoint))
    try:
        if is_frame_wise(state):
            graph = graph_from_frame_state(state)
            description = descriptions()["efficientsed"]
        elif is_panns(state):
            graph, description = graph_from_panns_state(state, name)
        elif is_transformer(state):
            graph, description = graph_from_transformer_state(state), descriptions()["ced"]
        else:
            found = variant(name, hop, bins)
            dynamic = "in_c.0.weight" in state
            graph = (
                graph_from_dynamic_state(state, found.bins) if dynamic
                else graph_from_state(state, found.bins, found.strides)
            )  # fmt: skip
            description = efficientat(found.config)
        classes = (graph.outputs[0].shape or (0, 0))[1]
        assert isinstance(classes, int)
        description = replace(description, labels=_labels(own, description.labels, classes))
    except (ModelError, ValueError) as error:
        raise ModelError(printable(f"{checkpoint}: {error}")) from None
    graph.metadata[f"custom:{KEY}"] = description.to_text()
    return graph


def _labels(
    given: tuple[ClassLabel, ...] | None, usual: tuple[ClassLabel, ...], classes: int
) -> tuple[ClassLabel, ...]:
    """Return the classes of a model; the usual ones of its family if it has as many and none are given."""
    labels = usual if given is None else given
    if given is None and classes != len(labels):
        raise ModelError(
            f"has {classes} classes, not the usual {len(labels)}: audiotag models convert --labels FILE names them"
        )
    if len(labels) != classes:
        raise ModelError(f"has {classes} classes, but the list of labels has {len(labels)}")
    return labels


def _without_prefix(state: Mapping[str, Array]) -> Mapping[str, Array]:
    if not all(name.startswith(_PREFIX) for name in state):
        return state
    return {name.removeprefix(_PREFIX): array for name, array in state.items()}

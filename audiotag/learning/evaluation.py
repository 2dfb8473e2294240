"""Scores of a model for labelled sounds, and a page about them."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from audiotag.errors import AudioError, Error
from audiotag.learning.figures import Figures, number_text

if TYPE_CHECKING:
    from audiotag.learning.examples import Examples
    from audiotag.tagger import Tagger


def evaluate(
    tagger: Tagger, examples: Examples, progress: Callable[[int], None] | None = None
) -> tuple[Figures, list[AudioError]]:
    """Compute the figures of a model for the classes that occur in the examples.

    Returns:
        (figures, failures): failures are the errors of sounds that can't be read, which the figures leave out.

    Raises:
        LabelError: a class of the examples is not one of the model's.
        Error: no sound can be read, or as `Tagger.scores`.
    """
    chosen = [tagger.labels.find(name).index for name in examples.classes]
    rows, scores, failures = [], [], list[AudioError]()
    for row, path in enumerate(examples.paths):
        try:
            scores.append(tagger.scores(path)[chosen])
            rows.append(row)
        except AudioError as error:
            failures.append(error)
        if progress is not None:
            progress(row + 1)
    if not rows:
        raise Error("no sound could be read")
    names = [tagger.labels[index].name for index in chosen]
    return Figures.of(np.array(scores), examples.targets[rows], names), failures


_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: 1rem 0 } th, td { padding: .2rem .6rem; text-align: right }
th:first-child, td:first-child { text-align: left } tr:nth-child(even) { background: #f4f4f4 }
.right { background: #cfe8cf } .wrong { background: #f6cfc4 } .bar { background: #4a7ab5; height: .8rem }
"""


def page(figures: Figures, model: str, source: str) -> str:
    """Return an HTML page with all figures."""
    title = html.escape(f"{model} on {source}")
    rows = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{count}</td><td>{number_text(value)}</td>"
        f'<td style="width:14rem"><div class="bar" style="width:{0 if value != value else 100 * value:.1f}%">'
        "</div></td></tr>"
        for name, count, value in zip(figures.classes, figures.counts, figures.precision, strict=True)
    )
    confusion = "" if figures.confusion is None else _confusion(figures)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style></head><body>
<h1>{title}</h1>
<p>Accuracy {figures.accuracy:.1%}, mean average precision {number_text(figures.mean_precision)}, calibration error
{figures.calibration:.3f} (the mean distance between scores and how often they are right).</p>
<table><tr><th>class</th><th>sounds</th><th>average precision</th><th></th></tr>{rows}</table>
{confusion}</body></html>
"""


def _confusion(figures: Figures) -> str:
    assert figures.confusion is not None
    heads = "".join(f"<th>{html.escape(name)}</th>" for name in figures.classes)
    rows = ""
    for i, (name, row) in enumerate(zip(figures.classes, figures.confusion, strict=True)):
        cells = "".join(
            f'<td class="{"right" if i == k else "wrong"}">{count}</td>' if count else "<td></td>"
            for k, count in enumerate(row)
        )
        rows += f"<tr><td>{html.escape(name)}</td>{cells}</tr>"
    return (
        "<h2>Confusion</h2><p>Rows: the true class. Columns: the class with the highest score.</p>"
        f"<table><tr><th></th>{heads}</tr>{rows}</table>"
    )

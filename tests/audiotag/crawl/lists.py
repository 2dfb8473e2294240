"""Names of files that lists must pass on unchanged."""

from __future__ import annotations

import os

from audiotag.crawl.inputs import expand, lists_in

NAMES = ["a.wav", "sub/b c.wav", "[x]*.wav", "-", "ü.wav", "odd\udcff.wav", "@f.wav", " space .wav"]


FOUND = [os.path.join(".", "-") if name == "-" else name for name in NAMES]


def listed(*paths, files0_from=None):
    return list(expand(lists_in(paths, files0_from)))

"""The code in our documents: commands in indented and bash blocks, Python in python blocks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    str(path.relative_to(ROOT))
    for path in (
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("models/**/*.md"),
        *ROOT.glob("examples/*.md"),
    )
)
"""Every document of the repository."""

SHELL = ("bash", "sh")
NOT_RUN = ("text", "json")
"""Kinds of fenced blocks that hold neither commands nor Python."""


@dataclass(frozen=True)
class Block:
    """A block of a page; `kind` is "shell", or the text after the fence."""

    page: str
    line: int
    kind: str
    text: str

    @property
    def commands(self) -> list[str]:
        """The commands of a shell block, those that go on after a backslash in one piece."""
        joined = re.sub(r"\\\n", "\\\n\0", self.text).split("\n")
        commands: list[str] = []
        for line in joined:
            if line.startswith("\0"):
                commands[-1] += "\n" + line[1:]
            elif line.strip() and not line.startswith("#"):
                commands.append(line)
        return commands


def blocks(page: str) -> list[Block]:
    """Return the blocks of a page, in order."""
    lines = (ROOT / page).read_text().split("\n")
    found, at = [], 0
    while at < len(lines):
        start = at
        fence = re.match(r"```(\w*)", lines[at])
        if fence:
            at += 1
            while lines[at] != "```":
                at += 1
            found.append(Block(page, start + 1, _kind(fence[1]), "\n".join(lines[start + 1 : at])))
        elif lines[at].startswith("    ") and not lines[at - 1].strip():
            while at < len(lines) and (lines[at].startswith("    ") or not lines[at].strip()):
                at += 1
            text = "\n".join(line[4:] for line in lines[start:at])
            found.append(Block(page, start + 1, "shell", text.rstrip()))
            continue
        at += 1
    return found


def _kind(word: str) -> str:
    return "shell" if word in SHELL else word


def inline(page: str) -> list[str]:
    """Return the pieces of code in a page's text."""
    text = re.sub(r"^```.*?^```", "", (ROOT / page).read_text(), flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"`([^`\n]+)`", text)

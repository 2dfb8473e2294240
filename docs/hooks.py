"""Pages of the site that are generated when it is built: operator coverage, command line, and documents from elsewhere.

Links between documents are written for the repository; here they become links between pages.
"""

from __future__ import annotations

import argparse
import posixpath
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]

ELSEWHERE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "models/CARD.md": "model-card.md",
    "models/train/README.md": "training.md",
}
"""Documents outside of docs/, and their pages."""

_LINK = re.compile(r"\[([^\]]*)\]\(([^)#\s]+)(#[^)]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    pages = {page: (ROOT / source).read_text() for source, page in ELSEWHERE.items()}
    pages |= {"operators.md": operators_page(), "command-line.md": command_line_page()}
    for page, text in pages.items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links between files of the repository into links between pages; other files become their names."""
    name = page.file.src_uri
    source = next((path for path, at in ELSEWHERE.items() if at == name), f"docs/{name}")

    def rewritten(match: re.Match[str]) -> str:
        text, target, anchor = match[1], match[2], match[3] or ""
        if "://" in target:
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        to = ELSEWHERE.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else None)
        if to is None:
            return f"{text} (`{path}`)"
        return f"[{text}]({posixpath.relpath(to, posixpath.dirname(name) or '.')}{anchor})"

    return _LINK.sub(rewritten, markdown)


# -- operator coverage ------------------------------------------------------------------


def operators_page() -> str:
    """Every registered operator, its versions and kernels, and those of onnx that are missing."""
    import tinyonnx.kernels
    from tinyonnx.registry import registered
    from tinyonnx.tools.operators import list_operators

    assert tinyonnx.kernels
    fast: dict[tuple[str, str], bool] = defaultdict(bool)
    for entry in registered():
        fast[entry.domain or "ai.onnx", entry.name] |= bool(entry.fast)
    known = list_operators()
    supported = [each for each in known if each.versions]
    by_domain: dict[str, list[Any]] = defaultdict(list)
    for each in supported:
        by_domain[each.domain].append(each)
    missing = [f"`{each.name}` ({each.domain})" for each in known if not each.versions]
    lines = [
        "# Operator coverage",
        "",
        "Generated from the registry. A version is the opset from which on a meaning is implemented; models of later",
        "opsets use the newest one. A kernel makes an operator fast for the types and shapes that it accepts;",
        "everything else runs in numpy.",
        "",
        "| domain | operators | with a kernel |",
        "|---|--:|--:|",
    ]
    for domain, entries in by_domain.items():
        lines.append(f"| `{domain}` | {len(entries)} | {sum(fast[domain, each.name] for each in entries)} |")
    lines += ["", f"Missing, of those that the installed onnx defines: {', '.join(missing) or 'none'}.", ""]
    for domain, entries in by_domain.items():
        lines += [f"## {domain}", "", "| operator | versions | kernel |", "|---|---|---|"]
        for each in entries:
            versions = ", ".join(map(str, each.versions))
            lines.append(f"| {each.name} | {versions} | {'yes' if fast[domain, each.name] else ''} |")
        lines.append("")
    return "\n".join(lines)


# -- command line -----------------------------------------------------------------------


def command_line_page() -> str:
    """The help of every command."""
    import audiotag.cli
    import tinyonnx.cli

    lines = ["# Command line", ""]
    for parser in (audiotag.cli.make_parser(), tinyonnx.cli.make_parser()):
        for name, command in _commands(parser):
            lines += [f"## {name}", "", "```text", command.format_help().rstrip(), "```", ""]
    return "\n".join(lines)


def _commands(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """The commands below a parser that have no commands of their own."""
    groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not groups:
        yield parser.prog, parser
    for group in groups:
        for command in group.choices.values():
            yield from _commands(command)

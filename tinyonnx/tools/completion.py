"""Scripts with which bash, zsh and fish complete the commands and options of an argparse parser."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import NamedTuple

SHELLS = ("bash", "zsh", "fish")


class Level(NamedTuple):
    """A parser, and the words that lead to it; () for the program itself."""

    path: tuple[str, ...]
    parser: argparse.ArgumentParser


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """Return the script for one of SHELLS; `parser.prog` is the program."""
    levels = list(_levels((), parser))
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](parser.prog, levels)


def _levels(path: tuple[str, ...], parser: argparse.ArgumentParser) -> Iterator[Level]:
    yield Level(path, parser)
    for name, child in _commands(parser).items():
        yield from _levels((*path, name), child)


def _commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Return the subcommands of a parser by name."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def _helps(parser: argparse.ArgumentParser) -> dict[str, str]:
    """Return the help of each subcommand of a parser."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return {choice.dest: _text(choice) for choice in action._choices_actions}
    return {}


def _options(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return [action for action in parser._actions if action.option_strings and action.help != argparse.SUPPRESS]


def _choices(action: argparse.Action) -> list[str]:
    return [str(choice) for choice in action.choices or ()]


def _text(action: argparse.Action) -> str:
    """Return the help of an action in one line, with values in the place of argparse's placeholders."""
    return " ".join(argparse.HelpFormatter("")._expand_help(action).split()) if action.help else ""


def _takes_value(action: argparse.Action) -> bool:
    return action.nargs != 0


def _positional_words(parser: argparse.ArgumentParser) -> list[str]:
    """Return the words that may stand where no option does."""
    words = list(_commands(parser))
    for action in parser._actions:
        if not action.option_strings and not isinstance(action, argparse._SubParsersAction):
            words += _choices(action)
    return words


# -- bash -----------------------------------------------------------------------------------


def _bash(program: str, levels: list[Level]) -> str:
    known = "|".join(f'"{" ".join(("", *level.path))}"' for level in levels if level.path)
    lines = [
        f"_{program}() {{",
        "  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} path= i",
        "  for ((i = 1; i < COMP_CWORD; i++)); do",
        f'    case "$path ${{COMP_WORDS[i]}}" in {known}) path="$path ${{COMP_WORDS[i]}}";; esac',
        "  done",
        '  case "$path/$prev" in',
    ]
    for path, parser in levels:
        for action in _options(parser):
            if _takes_value(action):
                patterns = "|".join(f'"{" ".join(("", *path))}/{option}"' for option in action.option_strings)
                words = " ".join(_choices(action))
                kind = f'-W "{words}"' if words else "-f"
                found = f'COMPREPLY=($(compgen {kind} -- "$cur"))'
                lines.append(f"    {patterns}) {found}; return;;")
    lines += ["  esac", '  case "$path" in']
    for path, parser in levels:
        options = " ".join(option for action in _options(parser) for option in action.option_strings)
        words = " ".join(_positional_words(parser))
        place = " ".join(("", *path))
        lines.append(f'    "{place}") local options="{options}" words="{words}";;')
    lines += [
        "  esac",
        "  if [[ $cur == -* ]]; then",
        '    COMPREPLY=($(compgen -W "$options" -- "$cur"))',
        "  elif [[ -n $words ]]; then",
        '    COMPREPLY=($(compgen -W "$words" -- "$cur"))',
        "  else",
        '    COMPREPLY=($(compgen -f -- "$cur"))',
        "  fi",
        "}",
        f"complete -o filenames -F _{program} {program}",
    ]
    return "\n".join(lines) + "\n"


# -- zsh ------------------------------------------------------------------------------------


def _zsh(program: str, levels: list[Level]) -> str:
    lines = [f"#compdef {program}"]
    for path, parser in levels:
        lines += ["", f"{_function(program, path)}() {{"]
        specs = [spec for action in _options(parser) for spec in _zsh_option(action)]
        children = _commands(parser)
        if children:
            described = " ".join(_quoted(f"{n}:{t}") for n, t in _helps(parser).items())
            lines += [f"  local -a commands=({described})", "  local state line"]
            specs += ["'1: :->command'", "'*:: :->rest'"]
        else:
            words = " ".join(_positional_words(parser))
            specs.append(f"'*: :({words})'" if words else "'*:file:_files'")
        lines.append("  _arguments -C " + " ".join(specs))
        if children:
            lines += ["  case $state in", "    command) _describe command commands;;", "    rest) case $words[1] in"]
            lines += [f"      {name}) {_function(program, (*path, name))};;" for name in children]
            lines += ["    esac;;", "  esac"]
        lines.append("}")
    main = _function(program, ())
    return "\n".join([*lines, "", f"compdef {main} {program}", ""])


def _zsh_option(action: argparse.Action) -> Iterator[str]:
    text = _text(action).replace("[", "(").replace("]", ")").replace(":", " ")
    words = " ".join(_choices(action))
    value = "" if not _takes_value(action) else f":value:({words})" if words else ":value:_files"
    for option in action.option_strings:
        yield _quoted(f"*{option}[{text}]{value}")


def _function(program: str, path: tuple[str, ...]) -> str:
    return "_" + "_".join((program, *path)).replace("-", "_")


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


# -- fish -----------------------------------------------------------------------------------


def _fish(program: str, levels: list[Level]) -> str:
    lines = []
    for path, parser in levels:
        children = list(_commands(parser))
        for name, text in _helps(parser).items():
            lines.append(
                f"complete -c {program} -n {_quoted(_fish_place(path, children))} -f -a {name} -d {_quoted(text)}"
            )
        for action in _options(parser):
            names = [f"-l {o[2:]}" if o.startswith("--") else f"-s {o[1:]}" for o in action.option_strings]
            words = f" -x -a {_quoted(' '.join(_choices(action)))}" if action.choices else " -r" * _takes_value(action)
            place = _quoted(_fish_place(path, children))
            lines.append(f"complete -c {program} -n {place} {' '.join(names)}{words} -d {_quoted(_text(action))}")
    return "\n".join(lines) + "\n"


def _fish_place(path: tuple[str, ...], children: list[str]) -> str:
    """Return the condition under which a level's words are offered."""
    seen = [f"__fish_seen_subcommand_from {name}" for name in path]
    not_seen = [f"not __fish_seen_subcommand_from {' '.join(children)}"] if children else []
    return "; and ".join([*seen, *not_seen]) or "true"

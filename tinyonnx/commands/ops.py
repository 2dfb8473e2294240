"""`tinyonnx ops`: list the supported operators."""

from __future__ import annotations

import argparse

from tinyonnx.commands._shared import add_json, print_json, table
from tinyonnx.errors import printable
from tinyonnx.tools.operators import Operator, list_operators, onnx_version

HELP = "list supported operators with their versions, and missing ones of the standard"
DESCRIPTION = "One line per operator with its versions, then counts, then missing operators."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("--domain", metavar="DOMAIN", help="list this domain only, such as ai.onnx or ai.onnx.ml")
    add_json(parser, "{onnx: its version, operators: [tinyonnx.tools.operators.Operator]}")


def run(args: argparse.Namespace) -> int:
    """Run the command and return the exit code."""
    operators = list_operators(args.domain)
    if not operators:
        domains = ", ".join(dict.fromkeys(operator.domain for operator in list_operators()))
        args.parser.error(f"argument --domain: {args.domain} is unknown; the domains are {domains}")
    if args.json:
        print_json({"onnx": onnx_version(), "operators": operators})
        return 0
    for operator in operators:
        if operator.versions:
            print(printable(operator.domain), printable(operator.name), *operator.versions)
    print(f"\n{_counts(operators)}")
    if missing := [operator for operator in operators if operator.missing]:
        print(f"\nin onnx {onnx_version()}, not here:")
        for operator in missing:
            print(operator.domain, operator.name, *operator.missing)
    return 0


def _counts(operators: list[Operator]) -> str:
    """Format the number of operators by domain: supported ones, and those of the standard."""
    rows = [("domain", "operators", f"onnx {onnx_version()}")]
    for domain in dict.fromkeys(operator.domain for operator in operators):
        mine = [operator for operator in operators if operator.domain == domain]
        standard = sum(operator.standard for operator in mine)
        rows.append((domain, str(sum(bool(operator.versions) for operator in mine)), str(standard or "")))
    return table(rows, right=[1, 2])

"""The subcommands of `tinyonnx`, one module each.

A module has `HELP` (its line in the list of commands), `DESCRIPTION`, `add_arguments(parser)` and
`run(args) -> exit code`.
"""

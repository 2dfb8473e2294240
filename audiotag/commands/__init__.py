"""The subcommands of `audiotag`, one module each: `add_parser(subparsers)` and `run(args) -> exit code`."""

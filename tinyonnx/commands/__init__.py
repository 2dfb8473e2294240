"""The subcommands of `tinyonnx`, a module each: `add` declares arguments, and the function that runs."""

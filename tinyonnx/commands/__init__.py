"""The subcommands of `tinyonnx`, one module each: `add` declares the arguments and the function that runs."""

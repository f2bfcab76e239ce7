"""One module per stage, each with `run(context) -> str`: read inputs, call named functions, write outputs, report."""

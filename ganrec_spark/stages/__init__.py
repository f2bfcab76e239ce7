"""One module per stage. Each has `run(context) -> str`: read inputs, call named functions, write outputs, say what came out."""

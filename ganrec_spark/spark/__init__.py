"""Starting Spark: the session, and what a submitted job is told."""

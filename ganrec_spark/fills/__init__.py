"""Generated rows for sparse users: made, judged, made ratings."""

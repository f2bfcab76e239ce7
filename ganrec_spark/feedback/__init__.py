"""What people do with their lists: the log of events, each once, and the ratings that follow from it."""

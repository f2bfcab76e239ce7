"""Rules that lists must keep, and the proof that they do."""

"""People without a rating: lists by their attributes alone."""

"""A room for each recommender, and how all of them rank the catalogue and are judged."""

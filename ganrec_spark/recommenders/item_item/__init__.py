"""Item-item models: EASE, RP3beta, GF-CF and their mixtures."""

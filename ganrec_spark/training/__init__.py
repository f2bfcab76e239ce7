"""Training on several workers: launchers, readers, checkpoints. It knows no model."""

"""Training on several workers: Horovod, Petastorm, checkpoints. It knows no model."""

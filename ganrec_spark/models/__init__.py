"""Pure Torch and NumPy: networks, losses, training loops. Knows no Spark, no Horovod, no tables."""

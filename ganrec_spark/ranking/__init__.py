"""Pure NumPy: top-n, metrics, blending, bootstrap. Runs on a laptop without Java."""

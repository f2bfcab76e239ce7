"""Implicit-feedback ALS."""

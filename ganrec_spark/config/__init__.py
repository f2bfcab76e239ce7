"""What may be set, and how its layers are read."""

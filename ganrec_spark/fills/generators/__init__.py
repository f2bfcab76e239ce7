"""The networks that generate implicit feedback, and their training."""

"""One list from the members' lists: weights, trees, serving."""

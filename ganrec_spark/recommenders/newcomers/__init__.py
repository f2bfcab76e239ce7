"""Items without a rating: for whom they are, by the rated items that they are like."""

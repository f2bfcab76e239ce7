"""What was shown, and to whom: arms, exploration, exposures."""

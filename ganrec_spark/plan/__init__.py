"""What there is: stages and tables, as data."""

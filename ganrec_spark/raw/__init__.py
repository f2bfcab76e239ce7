"""What comes in: files and tables of ratings, the rules that they are checked by, the generated world."""

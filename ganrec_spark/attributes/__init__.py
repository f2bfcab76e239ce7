"""What is known of users and items besides ratings: columns of their sources, typed and checked."""

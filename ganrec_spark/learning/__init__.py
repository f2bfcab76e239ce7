"""What people did with their lists: what arms and policies are worth, what has drifted, what to do next."""

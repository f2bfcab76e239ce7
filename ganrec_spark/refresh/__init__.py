"""Lists of users with new events, made from the published run's models between two runs."""

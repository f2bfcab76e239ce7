"""What people read: figures and the summary of a run."""

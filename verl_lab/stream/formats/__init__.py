"""What a file of metrics may look like, and how to tell."""

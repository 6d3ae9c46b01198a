"""What is wrong with a run and why, now and for any of its steps."""

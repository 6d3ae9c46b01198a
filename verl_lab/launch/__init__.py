"""A configuration becomes a job that outlives whoever started it."""

"""The nouns: run, recipe, metric, and the format of a run's files."""

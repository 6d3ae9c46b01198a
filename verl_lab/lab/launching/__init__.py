"""From a recipe to a run: planned, checked, pinned, sent and started."""

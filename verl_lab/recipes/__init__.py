"""Recipes: found, checked against verl's own configuration, and turned into what is launched."""

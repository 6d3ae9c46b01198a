"""Machines that train: known, reached, looked at and set up."""

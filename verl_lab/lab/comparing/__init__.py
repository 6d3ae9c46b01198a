"""Runs beside each other: what differs, where each comes from, what to try next."""

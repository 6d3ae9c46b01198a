"""Executed notebooks as reports that need neither a kernel nor the network to be read."""

"""Bytes and processes on a host, near or far."""

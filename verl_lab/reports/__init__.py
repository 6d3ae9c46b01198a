"""Executed notebooks as reports: to read them and use their charts takes neither a kernel nor the network."""

from __future__ import annotations

from pathlib import Path

TEMPLATE = Path(__file__).with_name("template.ipynb")
"""The notebook of a report on runs; ``lab.report`` executes it with other parameters."""

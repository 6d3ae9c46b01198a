"""The one object behind every face: ``Lab``, and the ``Run`` it hands out."""

from __future__ import annotations

from verl_lab.lab.lab import Lab
from verl_lab.lab.run import Run

__all__ = ["Lab", "Run"]

"""What is installed here, against what was pinned."""

from __future__ import annotations

from verl_lab.environments.verify import Check, Report, verify

__all__ = ["Check", "Report", "verify"]

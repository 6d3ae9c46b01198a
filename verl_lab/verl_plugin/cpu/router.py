"""The load balancer that verl starts in any case, where there is but one server and nobody asks.

It imports neither torch nor verl, unlike verl's own.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

CONFIG = Path(__file__).with_suffix(".yaml")
"""What names the class to verl (verl/workers/rollout/router.py, get_router_handle)."""


class IdleRouter:
    """Has nothing to do."""

    def __init__(self, servers: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        """Take what verl gives."""

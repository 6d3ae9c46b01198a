"""The index of runs: rows in SQLite or any database SQLAlchemy reaches; rebuilt from the run folders if lost."""

from __future__ import annotations

from verl_lab.store.batch import BadLine, Batch, FilePosition
from verl_lab.store.events import RunEvent
from verl_lab.store.frame import Frame, of_events
from verl_lab.store.pieces import Series
from verl_lab.store.quarantine import Quarantined
from verl_lab.store.runs import RunRow
from verl_lab.store.store import Store
from verl_lab.store.system import IN_WORK

__all__ = [
    "IN_WORK",
    "BadLine",
    "Batch",
    "FilePosition",
    "Frame",
    "Quarantined",
    "RunEvent",
    "RunRow",
    "Series",
    "Store",
    "of_events",
]

"""Data sets: which content a path holds, whether it is fit to train on, and a copy of it that stays as it is."""

from __future__ import annotations

from verl_lab.datasets.checks import check_splits
from verl_lab.datasets.content import Part, parts_of, preview
from verl_lab.datasets.describe import describe
from verl_lab.datasets.difference import RowChange, RowDiff, diff_rows
from verl_lab.datasets.fingerprint import Fingerprint, Fingerprints
from verl_lab.datasets.folder import Found, find
from verl_lab.datasets.snapshot import Kept, Snapshots
from verl_lab.datasets.tokens import count_tokens

__all__ = [
    "Fingerprint",
    "Fingerprints",
    "Found",
    "Kept",
    "Part",
    "RowChange",
    "RowDiff",
    "Snapshots",
    "check_splits",
    "count_tokens",
    "describe",
    "diff_rows",
    "find",
    "parts_of",
    "preview",
]

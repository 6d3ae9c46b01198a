"""From what runs write to the index and to listeners: lines, records, a background reader and a feed."""

from __future__ import annotations

from verl_lab.stream.feed import Feed, RunUpdate, Subscription
from verl_lab.stream.followed import FollowedRun, attached_run_id
from verl_lab.stream.logs import Log, find_logs
from verl_lab.stream.reader import Reader
from verl_lab.stream.rebuild import Reindexed, rebuild

__all__ = [
    "Feed",
    "FollowedRun",
    "Log",
    "Reader",
    "Reindexed",
    "RunUpdate",
    "Subscription",
    "attached_run_id",
    "find_logs",
    "rebuild",
]

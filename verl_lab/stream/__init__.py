"""From what runs write to the index and to listeners: lines, records, a background reader and a feed."""

from __future__ import annotations

from verl_lab.stream.feed import Feed, RunUpdate, Subscription
from verl_lab.stream.followed import FollowedRun, attached_run_id
from verl_lab.stream.formats.detect import detect_source
from verl_lab.stream.reader import Reader

__all__ = ["Feed", "FollowedRun", "Reader", "RunUpdate", "Subscription", "attached_run_id", "detect_source"]

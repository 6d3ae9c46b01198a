"""Reading a run anew, from its files' beginnings."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from verl_lab.errors import VerlLabError
from verl_lab.stream.feed import Feed
from verl_lab.stream.run_reader import RunReader

if TYPE_CHECKING:
    from collections.abc import Mapping

    from verl_lab.store import FilePosition, Store
    from verl_lab.stream.followed import FollowedRun


@dataclass(frozen=True)
class Reindexed:
    """What became of the index.

    Attributes
    ----------
    rebuilt
        Ids of the runs that were read anew.
    kept
        By id, why a run's rows were left as they were. What is on disk no more is never dropped: the
        index may hold the only copy.
    """

    rebuilt: list[str] = field(default_factory=list[str])
    kept: dict[str, str] = field(default_factory=dict[str, str])


def rebuild(store: Store, run: FollowedRun, into: Reindexed) -> None:
    """Index a run anew from its files; its old rows serve until the new ones are complete."""
    try:
        why = _read_anew(store, run)
    except VerlLabError as error:
        why = error.message
    if why is None:
        into.rebuilt.append(run.run_id)
    else:
        into.kept[run.run_id] = why


def _read_anew(store: Store, run: FollowedRun) -> str | None:
    """Return why the old rows were kept; None if they were replaced."""
    if run.host.stat(run.path) is None:
        return f"There is nothing at {run.path} any more."
    shadow = store.begin_rebuild(run.run_id)
    try:
        reader = RunReader(store, Feed(), replace(run, run_id=shadow))
        ahead: Mapping[tuple[int, str], FilePosition] = {}
        while True:
            reader.read(thoroughly=True)
            # Attempts that were overwritten or deleted are in the index alone: verl's own logger begins its file anew.
            if not _attempts(store, run.run_id) <= _attempts(store, shadow):
                store.drop_rebuild(run.run_id)
                return "It holds attempts that are not on disk any more."
            ahead = store.finish_rebuild(run.run_id, gone=ahead)
            if not ahead:
                return None
    except BaseException:
        store.drop_rebuild(run.run_id)
        raise


def _attempts(store: Store, run_id: str) -> set[int]:
    return {attempt for attempt, _ in store.positions(run_id)}

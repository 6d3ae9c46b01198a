"""Which runs trained on which data, from their launch records."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from verl_lab.domain.host import LOCAL
from verl_lab.domain.wire import RunLayout
from verl_lab.errors import VerlLabError

if TYPE_CHECKING:
    from verl_lab.lab.lab import Lab
    from verl_lab.store import RunRow

_HASH = re.compile(rb"\b[0-9a-f]{64}\b")


class Uses:
    """What launch records name, each read once: they never change."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._hashes: dict[str, frozenset[str]] = {}

    def by_hash(self) -> dict[str, list[str]]:
        """Return the ids of the runs whose record names a data set, newest first, by its hash."""
        found: dict[str, list[str]] = {}
        for row in self._lab.store.runs.list(kind="run"):
            for name in self._of(row):
                found.setdefault(name, []).append(row.id)
        return found

    def _of(self, row: RunRow) -> frozenset[str]:
        if row.id not in self._hashes:
            try:
                content = self._lab.host.read(str(self._record(row)))
            except VerlLabError:  # it is gone, or was never here
                return frozenset()
            self._hashes[row.id] = frozenset(text.decode() for text in _HASH.findall(content))
        return self._hashes[row.id]

    def _record(self, row: RunRow) -> Path:
        """Return the record, or for a run of another machine the copy that was kept when it was launched."""
        if row.host != LOCAL:
            return self._lab.settings.home / "records" / f"{row.id}.json"
        return RunLayout(Path(row.folder)).record

"""An attempt's folder to write to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
import pytest

from verl_lab.domain.wire import AttemptLayout, EventRecord, decode_event, decode_header
from verl_lab.verl_plugin.attempt import Attempt

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def attempt(tmp_path: Path) -> Attempt:
    folder = tmp_path / "attempts" / "1"
    folder.mkdir(parents=True)
    return Attempt(AttemptLayout(folder), run="run-a", number=1)


@pytest.fixture
def attempt_environment(attempt: Attempt) -> dict[str, str]:
    return {
        "VERL_LAB_ATTEMPT_DIR": str(attempt.layout.folder),
        "VERL_LAB_RUN_ID": attempt.run,
        "VERL_LAB_ATTEMPT": str(attempt.number),
    }


@pytest.fixture
def read_events() -> Callable[[Attempt], list[EventRecord]]:
    def read(attempt: Attempt) -> list[EventRecord]:
        header, *lines = attempt.layout.events.read_bytes().splitlines()
        assert decode_header(header).run == attempt.run
        return [decode_event(line) for line in lines if line]

    return read


@pytest.fixture
def read_progress() -> Callable[[Attempt], dict[str, object]]:
    return lambda attempt: orjson.loads(attempt.layout.progress.read_bytes())

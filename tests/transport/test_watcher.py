"""The watcher tells of changes, also in folders that come, go and return, and gives all back."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from verl_lab.errors import TransportError
from verl_lab.transport.local import LocalHost

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from verl_lab.transport.base import Host, Watcher

# Far longer than any change takes to be told: a wait that ends before it was ended by the change.
LONG_S = 60.0


@pytest.fixture
def watcher(host: Host) -> Iterator[Watcher]:
    watcher = host.watcher()
    yield watcher
    watcher.close()


def later(action: Callable[[], object]) -> None:
    threading.Timer(0.05, action).start()


def until_told(watcher: Watcher, path: Path) -> None:
    began = time.monotonic()
    while str(path) not in watcher.wait(LONG_S):
        pass
    assert time.monotonic() - began < LONG_S, "the wait was ended by its timeout, not by the change"


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x")


def test_first_wait_names_the_folder_because_it_may_hold_news(watcher: Watcher, tmp_path: Path):
    watcher.watch([str(tmp_path)])
    assert watcher.wait(LONG_S) == {str(tmp_path)}
    assert watcher.wait(0.05) == set()
    watcher.watch([str(tmp_path)])
    assert watcher.wait(0.05) == set()


def test_new_grown_replaced_and_removed_files_are_told(watcher: Watcher, tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    watcher.watch([str(tmp_path)])
    watcher.wait(LONG_S)
    for change in (
        lambda: append(path),
        lambda: append(path),
        lambda: LocalHost().write_atomic(str(path), b"new"),
        path.unlink,
    ):
        later(change)
        until_told(watcher, path)
        while watcher.wait(0.05):
            pass


def test_change_between_two_waits_is_told_by_the_second(watcher: Watcher, tmp_path: Path):
    watcher.watch([str(tmp_path)])
    watcher.wait(LONG_S)
    append(tmp_path / "x")
    assert watcher.wait(LONG_S) == {str(tmp_path / "x")}


def test_folder_that_does_not_exist_yet_is_waited_for(watcher: Watcher, tmp_path: Path):
    folder = tmp_path / "run" / "attempts" / "1"
    watcher.watch([str(folder)])
    assert watcher.wait(0.05) == set()
    later(lambda: folder.mkdir(parents=True))
    until_told(watcher, folder)
    later(lambda: append(folder / "x"))
    until_told(watcher, folder / "x")


def test_folder_made_anew_is_watched_again(watcher: Watcher, tmp_path: Path):
    folder = tmp_path / "run"
    folder.mkdir()
    watcher.watch([str(folder)])
    watcher.wait(LONG_S)
    for _ in range(5):
        later(lambda: (shutil.rmtree(folder), folder.mkdir()))
        until_told(watcher, folder)
        while watcher.wait(0.05):
            pass
        later(lambda: append(folder / "x"))
        until_told(watcher, folder / "x")


def test_other_entries_beside_a_waited_for_folder_are_not_told(watcher: Watcher, tmp_path: Path):
    watcher.watch([str(tmp_path / "mine")])
    watcher.wait(0.01)
    append(tmp_path / "other")
    assert watcher.wait(0.2) == set()


def test_wake_ends_this_wait_or_the_next(watcher: Watcher, tmp_path: Path):
    watcher.watch([str(tmp_path)])
    watcher.wait(LONG_S)
    later(watcher.wake)
    began = time.monotonic()
    assert watcher.wait(LONG_S) == set()
    watcher.wake()
    assert watcher.wait(LONG_S) == set()
    assert time.monotonic() - began < LONG_S


def test_folders_can_be_replaced_during_a_wait(watcher: Watcher, tmp_path: Path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    watcher.watch([str(tmp_path / "a")])
    watcher.wait(LONG_S)
    later(lambda: watcher.watch([str(tmp_path / "a"), str(tmp_path / "b")]))
    assert watcher.wait(LONG_S) == {str(tmp_path / "a"), str(tmp_path / "b")}
    later(lambda: append(tmp_path / "b" / "x"))
    until_told(watcher, tmp_path / "b" / "x")


def test_watching_nothing_waits_until_woken(watcher: Watcher):
    assert watcher.wait(0.02) == set()
    later(watcher.wake)
    assert watcher.wait(LONG_S) == set()


def test_close_ends_a_wait_and_later_waits_are_refused(host: Host, tmp_path: Path):
    watcher = host.watcher()
    watcher.watch([str(tmp_path)])
    watcher.wait(LONG_S)
    later(watcher.close)
    assert watcher.wait(LONG_S) == set()
    watcher.close()
    with pytest.raises(TransportError, match="closed"):
        watcher.wait(0)


def test_no_descriptor_and_no_thread_stay_behind(host: Host, tmp_path: Path):
    def held() -> tuple[int, int]:
        return len(list(Path("/proc/self/fd").iterdir())), len(list(Path("/proc/self/task").iterdir()))

    def use() -> None:
        watcher = host.watcher()
        for number in range(3):
            (tmp_path / str(number)).mkdir(exist_ok=True)
            watcher.watch([str(tmp_path / str(number)), str(tmp_path / "none")])
            watcher.wait(0.01)
        watcher.close()

    use()
    before = held()
    for _ in range(20):
        use()
    until = time.monotonic() + LONG_S
    while held() > before and time.monotonic() < until:
        time.sleep(0.02)
    after = held()
    assert after[0] <= before[0]
    assert after[1] <= before[1]

"""Shared by all tests: how many rounds of a fault a run does, recordings, what writes runs, SSH servers, a browser."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser

sys.path += [str(Path(__file__).parent / place) for place in ("", "transport", "browser")]
pytest_plugins = ("postgres_server", "recipe_inputs", "server_pages", "ssh_fixtures")
RECORDINGS = Path(__file__).parent / "recordings" / "verl-0.9.1"
SERVER = Path(__file__).parent / "server"


def pytest_configure() -> None:
    """Let interrupts through to what tests start: behind a shell's ``&`` they are ignored, and that is inherited."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what asks for a number of rounds, which ``make test-faults`` repeats in full; put the server first.

    Once there is a browser, its event loop is the running one of this thread, and no server could have its own.
    """
    for item in items:
        if "rounds" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.faults)
    items.sort(key=lambda item: SERVER not in item.path.parents)


@pytest.fixture
def recordings() -> Path:
    """Return the folder of recorded verl logs."""
    return RECORDINGS


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """Start a headless Chromium, one for all: a process can have one Playwright only."""
    from jupyterlab_page import running_chromium

    with running_chromium() as browser:
        yield browser


@pytest.fixture
def rounds() -> Callable[[int], int]:
    """Return how many of ``full`` fault rounds to do: a tenth, or all under ``make test-faults``."""
    share = float(os.environ.get("VERL_LAB_FAULT_SHARE", "0.1"))
    return lambda full: max(1, round(full * share))


@pytest.fixture
def dice(request: pytest.FixtureRequest) -> random.Random:
    """Return a generator seeded by the test's own name, so that a failure can be repeated."""
    return random.Random(request.node.nodeid)


@pytest.fixture
def disk_of(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Return what makes a file system of its own that a test can fill, of a size such as ``66m``."""
    made: list[Path] = []

    def make(size: str) -> Path:
        place = tmp_path / f"disk-{len(made)}"
        place.mkdir()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(place)], check=False)
        if mounted.returncode:
            pytest.skip("only root can make a file system that is small")
        made.append(place)
        return place

    yield make
    for place in made:
        subprocess.run(["umount", "--lazy", str(place)], check=True)

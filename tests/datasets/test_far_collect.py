"""Copies on a host that no run there needs are listed and removed; what a run names, and what is young, stays."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from ssh_server import QUICK, Server

from verl_lab.datasets import find
from verl_lab.datasets.far import YOUNG_S, FarCopies, everything
from verl_lab.errors import TransportError
from verl_lab.magics.data import ARGUMENTS, show_data
from verl_lab.magics.line import LineParser, MagicError
from verl_lab.transport.local import LocalHost

if TYPE_CHECKING:
    from collections.abc import Callable

    from verl_lab import Lab
    from verl_lab.transport.base import Host


@pytest.fixture(params=["local", "ssh"])
def host(request: pytest.FixtureRequest) -> Host:
    """Return this machine, near and far."""
    return LocalHost() if request.param == "local" else request.getfixturevalue("ssh_host")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "far home" / ".verl-lab"


def written(folder: Path, name: str, content: bytes = b"") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content or name.encode())
    return folder / name


def hash_of(place: str | Path) -> str:
    return Path(place).parent.name


def name_in_run(root: Path, run: str, text: str) -> None:
    written(root / "runs" / run, "run.json", text.encode())


def grow_old(root: Path) -> None:
    """Let a day pass."""
    then = time.time() - YOUNG_S - 60
    for place in (*root.rglob("*"), root):
        os.utime(place, (then, then))


def test_only_what_no_run_names_is_removed(host: Host, root: Path, lab: Lab, tmp_path: Path) -> None:
    copies, prints = FarCopies(host, str(root)), lab.datasets.fingerprints
    source = tmp_path / "source"
    used = copies.keep("datasets", find(written(source, "used.jsonl")), prints)
    damaged = copies.keep("files", find(written(source, "reward.py")), prints)
    free = copies.keep("datasets", find(written(source, "free.jsonl", bytes(5000))), prints)
    model = copies.keep("models", everything(written(source / "model", "weights", bytes(70_000)).parent), prints)
    name_in_run(root, "one", f'{{"launch": {{"argv": ["data.train_files={used}"]}}}}')
    name_in_run(root, "two", f'{{"this is no JSON {hash_of(damaged)}')
    (root / "runs" / "empty").mkdir()
    assert copies.collect(str(root / "runs"), dry_run=True)[0] == [], "a launch may be on its way to them"
    grow_old(root)
    listed, recent = copies.collect(str(root / "runs"), dry_run=True)
    assert [(one.kind, one.hash, one.names, one.size) for one in listed] == [
        ("datasets", hash_of(free), ("free.jsonl",), 5000),
        ("models", hash_of(model), ("model",), 70_000),
    ]
    assert recent == []
    assert Path(free).exists()
    assert Path(model).exists()
    assert copies.collect(str(root / "runs"), dry_run=False) == (listed, [])
    assert not Path(free).parent.exists()
    assert not Path(model).parent.exists()
    assert Path(used).exists()
    assert Path(damaged).exists()
    assert copies.collect(str(root / "runs"), dry_run=False) == ([], [])
    again = copies.keep("datasets", find(source / "free.jsonl"), prints)
    assert Path(again).read_bytes() == bytes(5000)


def test_what_was_looked_for_within_a_day_stays(host: Host, root: Path, lab: Lab, tmp_path: Path) -> None:
    copies, prints = FarCopies(host, str(root)), lab.datasets.fingerprints
    place = copies.keep("datasets", find(written(tmp_path, "rows.jsonl")), prints)
    grow_old(root)
    assert copies.find("datasets", hash_of(place), "rows.jsonl") == place
    free, recent = copies.collect(str(root / "runs"), dry_run=False)
    assert (free, [one.hash for one in recent]) == ([], [hash_of(place)])
    assert Path(place).exists()


def test_what_is_half_sent_goes_when_it_is_old_and_what_is_not_ours_never(host: Host, root: Path) -> None:
    copies = FarCopies(host, str(root))
    half, theirs = "a" * 64, "b" * 64
    written(root / "datasets" / half / ".partial", half, bytes(300))
    written(root / "datasets" / theirs, "snapshot.jsonl")
    written(root / "datasets" / ".collected-aaaaaaaaaaaaaaaa01234567", "rest")
    _, recent = copies.collect(str(root / "runs"), dry_run=True)
    assert [one.hash for one in recent] == [half]
    grow_old(root)
    free, _ = copies.collect(str(root / "runs"), dry_run=False)
    assert [(one.hash, one.names, one.size) for one in free] == [(half, (), 300)]
    assert sorted(path.name for path in (root / "datasets").iterdir()) == [theirs]


def test_paths_of_the_users_own_are_not_copies(host: Host, root: Path, lab: Lab, tmp_path: Path) -> None:
    path = written(tmp_path / "mine", "rows.jsonl")
    copies = FarCopies(host, str(root))
    found = find(path)
    assert copies.keep("datasets", found, lab.datasets.fingerprints, at=str(path), in_place=True) == str(path)
    grow_old(root)
    assert copies.collect(str(root / "runs"), dry_run=False) == ([], [])
    assert path.exists()


def test_record_that_cannot_be_read_keeps_everything(root: Path, lab: Lab, tmp_path: Path) -> None:
    copies = FarCopies(LocalHost(), str(root))
    place = copies.keep("datasets", find(written(tmp_path, "rows.jsonl")), lab.datasets.fingerprints)
    (root / "runs" / "odd" / "run.json").mkdir(parents=True)
    grow_old(root)
    with pytest.raises(TransportError, match=r"run\.json: Is a directory"):
        copies.collect(str(root / "runs"), dry_run=False)
    assert Path(place).exists()


def test_who_sends_and_who_collects_do_not_harm_each_other(
    root: Path, lab: Lab, tmp_path: Path, rounds: Callable[[int], int]
) -> None:
    copies, path = FarCopies(LocalHost(), str(root)), written(tmp_path, "rows.jsonl", bytes(200_000))
    found, prints = find(path), lab.datasets.fingerprints
    stop = threading.Event()

    def collecting() -> None:
        while not stop.is_set():
            if (root / "datasets").exists():
                copies.collect(str(root / "runs"), dry_run=False)

    thread = threading.Thread(target=collecting)
    thread.start()
    try:
        for _ in range(rounds(50)):
            place = Path(copies.keep("datasets", found, prints))
            assert place.read_bytes() == path.read_bytes(), "what was given is young, so it stays"
            for old in (place, place.parent, *(root / "datasets" / ".manifests").glob("*.json")):
                os.utime(old, (1, 1))
    finally:
        stop.set()
        thread.join()
    shutil.rmtree(root)


def test_magic_lists_before_it_removes(lab: Lab, sshd: Server, tmp_path: Path, home: Path, root: Path) -> None:
    del home  # without keys
    lab.hosts.timings = QUICK
    shown = subprocess.run(["ssh-keygen", "-lf", sshd.host_key], capture_output=True, text=True, check=True)
    where = ("127.0.0.1", sshd.port, getpass.getuser(), str(sshd.user_key))
    lab.hosts.add("box", *where, runs_root=str(root), python=sys.executable, accept=shown.stdout.split()[1])
    copies = FarCopies(lab.hosts.get("box"), str(root), python=sys.executable)
    place = copies.keep("datasets", find(written(tmp_path, "rows.jsonl", bytes(3000))), lab.datasets.fingerprints)

    line = LineParser(prog="%verl_data")
    for flags, options in ARGUMENTS:
        line.add_argument(*flags, **options)

    def said(*words: str) -> str:
        return repr(show_data(lab, line.parse_args(words)))

    assert said("--collect", "--host", "box") == (
        "Nothing to remove. 1 more stay for a day, since a launch may need them."
    )
    grow_old(root)
    listed = said("--collect", "--host", "box")
    assert "rows.jsonl" in listed
    assert "3.0 kB. --yes removes them." in listed
    assert Path(place).exists()
    assert "3.0 kB freed." in said("--collect", "--host", "box", "--yes")
    assert not Path(place).exists()
    with pytest.raises(MagicError, match="--host is for --collect"):
        said("--host", "box")

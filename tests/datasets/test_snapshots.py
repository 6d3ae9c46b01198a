"""Copies that stay as they are: complete or not there, never shared with what a user may write to."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from verl_lab.datasets import find
from verl_lab.errors import InvalidInputError, TransportError

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from verl_lab import Lab

KEEPING = Path(__file__).parent / "programs" / "keeping.py"


def keep(lab: Lab, path: Path) -> Path:
    with lab.datasets.snapshots.in_use():
        return lab.datasets.pin(str(path), copy=True)[1]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for name in ("train.jsonl", "inner/test.jsonl"):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).write_text(f'{{"a": "{name}"}}\n' * 1000)
    return tmp_path / "data"


def test_a_copy_is_read_only_under_its_hash_and_keeps_its_names(lab: Lab, place: Path) -> None:
    copy = keep(lab, place)
    version = lab.datasets.at(place)
    assert copy == lab.settings.home / "datasets" / version.hash / "data"
    assert lab.datasets.at(copy).hash == version.hash
    for name, path in find(copy).files.items():
        assert path.read_bytes() == (place / name).read_bytes()
        assert stat.S_IMODE(path.stat().st_mode) == 0o444
    single = keep(lab, place / "train.jsonl")
    assert single.name == "train.jsonl"


def test_a_copy_shares_nothing_with_the_original(lab: Lab, place: Path) -> None:
    copy = keep(lab, place)
    for name, path in find(copy).files.items():
        assert path.stat().st_ino != (place / name).stat().st_ino
        with (place / name).open("r+b") as file:
            file.write(b"changed in place")
        assert not path.read_bytes().startswith(b"changed")


def test_the_same_bytes_are_kept_once_under_all_their_names(lab: Lab, place: Path, tmp_path: Path) -> None:
    other = tmp_path / "my other (copy).jsonl"
    shutil.copy(place / "train.jsonl", other)
    one, two, again = keep(lab, place / "train.jsonl"), keep(lab, other), keep(lab, place / "train.jsonl")
    assert one == again
    assert two.name == "my-other-copy.jsonl"
    assert one.stat().st_ino == two.stat().st_ino
    (kept,) = lab.datasets.snapshots.kept()
    assert kept.size == one.stat().st_size


def test_a_folder_of_one_file_and_that_file_are_one_version_with_two_forms(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "x").write_text('{"a": 1}\n')
    folder, file = keep(lab, tmp_path / "x"), keep(lab, tmp_path / "x" / "x")
    assert lab.datasets.at(folder).hash == lab.datasets.at(file).hash
    assert file.is_file()


@pytest.mark.parametrize("harm", ["changed", "cut", "missing", "one more"])
def test_what_changes_between_hash_and_copy_is_refused_and_leaves_nothing(lab: Lab, place: Path, harm: str) -> None:
    found = find(place)
    fingerprint = lab.datasets._fingerprints.of(found)
    file = place / "train.jsonl"
    if harm == "changed":
        content = file.read_bytes()
        file.write_bytes(content[:-5] + b"x" + content[-4:])
    elif harm == "cut":
        os.truncate(file, 100)
    elif harm == "missing":
        file.unlink()
    else:
        with file.open("ab") as more:
            more.write(b"{}\n")
    with lab.datasets.snapshots.in_use(), pytest.raises(TransportError):
        lab.datasets.snapshots.keep(found, fingerprint)
    assert lab.datasets.snapshots.of(fingerprint.hash) == []


def test_a_damaged_copy_is_made_again(lab: Lab, place: Path) -> None:
    copy = keep(lab, place / "train.jsonl")
    copy.chmod(0o644)
    copy.write_text("damaged")
    version = lab.datasets.at(place / "train.jsonl")
    assert not lab.datasets.snapshots.intact(copy, version.hash)
    assert keep(lab, place / "train.jsonl") == copy
    assert lab.datasets.snapshots.intact(copy, version.hash)
    folder = keep(lab, place)
    (folder / "train.jsonl").unlink()
    keep(lab, place)
    assert lab.datasets.at(folder).hash == lab.datasets.at(place).hash


def test_a_killed_copy_leaves_nothing_half_and_the_next_one_completes(
    lab: Lab, tmp_path: Path, dice: random.Random, rounds: Callable[[int], int]
) -> None:
    place = tmp_path / "data"
    place.mkdir()
    for n in range(6):
        (place / f"{n}.jsonl").write_bytes(b'{"a": %d}\n' % n * 200_000)
    hashed = lab.datasets.at(place).hash
    killed_within = 0
    for _ in range(rounds(100)):
        shutil.rmtree(lab.settings.datasets_folder, ignore_errors=True)
        argv = [sys.executable, str(KEEPING), str(lab.settings.home), str(place)]
        with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"copying\n"
            time.sleep(dice.random() * 0.2)
            process.send_signal(signal.SIGKILL)
        killed_within += process.returncode == -signal.SIGKILL
        for copy in lab.datasets.snapshots.of(hashed):
            assert lab.datasets.snapshots.intact(copy, hashed)
        copy = keep(lab, place)
        assert lab.datasets.at(copy).hash == hashed
        assert [path.name for path in (lab.settings.datasets_folder / hashed).iterdir()] == ["data"]
    assert killed_within


def test_what_no_run_needs_is_shown_and_then_removed(lab: Lab, place: Path) -> None:
    used, unused = keep(lab, place / "train.jsonl"), keep(lab, place / "inner")
    half = lab.settings.datasets_folder / ("0" * 64) / ".partial"
    half.mkdir(parents=True)
    (half / "copy").write_text("half")
    run = lab.settings.runs_root / "20260101-000000-a-0000"
    run.mkdir()
    # A record that was cut short still says what it needs.
    (run / "run.json").write_text(f'{{"datasets": [{{"hash": "{lab.datasets.at(used).hash}"')
    shown = lab.datasets.collect()
    assert {kept.hash for kept in shown.copies} == {"0" * 64, lab.datasets.at(unused).hash}
    assert not shown.removed
    assert unused.exists()
    assert lab.datasets.collect(confirm=True).copies == shown.copies
    assert used.exists()
    assert not unused.exists()
    assert not half.exists()
    assert lab.datasets.collect().copies == ()


def test_nothing_is_collected_while_a_launch_makes_copies(lab: Lab, place: Path) -> None:
    copy = keep(lab, place)
    with lab.datasets.snapshots.in_use(), pytest.raises(InvalidInputError, match="at this moment"):
        lab.datasets.collect(confirm=True)
    assert copy.exists()


def test_space_is_looked_for_before_copying(lab: Lab, place: Path) -> None:
    keep(lab, place)
    with pytest.raises(TransportError, match="GB free") as caught:
        lab.datasets.snapshots._check_space(10**18)
    assert "collect" in str(caught.value.hint)

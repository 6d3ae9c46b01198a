"""The same bytes are the same version wherever they lie; other bytes are another one, whatever the clock says."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from blake3 import blake3

from verl_lab import Lab
from verl_lab.datasets import Fingerprint, find, fingerprint
from verl_lab.transport.local import LocalHost

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    import pytest

PROGRAMS = Path(__file__).parent / "programs"


def taken(lab: Lab, path: Path) -> Fingerprint:
    return lab.datasets._fingerprints.of(find(path))


def folder(path: Path, contents: dict[str, bytes]) -> Path:
    for name, content in contents.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def test_a_files_hash_is_the_blake3_of_its_bytes_whatever_it_is_called(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    nothing = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
    assert taken(lab, tmp_path / "empty").hash == nothing
    content = os.urandom(300_000)
    names = ("a.jsonl", "b.parquet", "c")
    for name in names:
        (tmp_path / name).write_bytes(content)
    assert {taken(lab, tmp_path / name).hash for name in names} == {blake3(content).hexdigest()}


def test_copies_in_any_order_place_process_and_locale_are_one_version(
    lab: Lab, tmp_path: Path, dice: random.Random
) -> None:
    contents = {f"{n % 3}/ü{n}.jsonl": dice.randbytes(dice.randrange(200_000)) for n in range(20)}
    first = folder(tmp_path / "one", contents)
    names = list(contents)
    dice.shuffle(names)
    second = folder(tmp_path / "elsewhere" / "two", {name: contents[name] for name in names})
    third = Path(shutil.copytree(first, tmp_path / "three"))
    hashes = {taken(lab, place).hash for place in (first, second, third)}
    code = "import sys; from verl_lab import Lab; print(Lab(sys.argv[1]).datasets.at(sys.argv[2]).hash)"
    argv = [sys.executable, "-c", code, str(tmp_path / "other-home"), str(second)]
    done = LocalHost().run(argv, timeout_s=120, env={"LC_ALL": "C", "TZ": "Asia/Tokyo", "PYTHONHASHSEED": "7"})
    assert done.exit_code == 0, done.stderr.decode()
    assert {*hashes, done.stdout.decode().strip()} == {hashes.pop()}


def test_a_name_counts_where_it_tells_files_apart(lab: Lab, tmp_path: Path) -> None:
    one = folder(tmp_path / "one", {"train": b"1", "test": b"2"})
    swapped = folder(tmp_path / "two", {"train": b"2", "test": b"1"})
    assert taken(lab, one).hash != taken(lab, swapped).hash
    alone = folder(tmp_path / "three", {"data.jsonl": b"1"})
    assert taken(lab, alone).hash == taken(lab, alone / "data.jsonl").hash == taken(lab, one / "train").hash


def test_no_two_folders_have_one_hash_because_of_how_names_and_bytes_meet(lab: Lab, tmp_path: Path) -> None:
    contents = [{"a": b"bc", "d": b""}, {"ab": b"c", "d": b""}, {"a": b"b", "cd": b""}, {"a/d": b"", "a/b": b"bc"}]
    hashes = {taken(lab, folder(tmp_path / str(n), each)).hash for n, each in enumerate(contents)}
    assert len(hashes) == len(contents)


def test_one_flipped_bit_is_found(lab: Lab, tmp_path: Path, dice: random.Random, rounds: Callable[[int], int]) -> None:
    place = folder(tmp_path / "data", {f"{n}.jsonl": dice.randbytes(dice.randrange(1, 70_000)) for n in range(4)})
    before = taken(lab, place).hash
    for _ in range(rounds(1000)):
        file = dice.choice(sorted(place.iterdir()))
        about = file.stat()
        content = bytearray(file.read_bytes())
        content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
        original = file.read_bytes()
        file.write_bytes(content)
        os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))
        assert taken(lab, place).hash != before
        file.write_bytes(original)
        os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))
        assert taken(lab, place).hash == before


def test_a_large_file_is_hashed_alike_mapped_and_read(
    tmp_path: Path, dice: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "large"
    content = dice.randbytes(3 * 2**20 + 17)
    file.write_bytes(content)
    found: list[str] = []
    for mapped_from in (1, 2**60):
        monkeypatch.setattr(fingerprint, "_MAPPED_FROM", mapped_from)
        monkeypatch.setattr(fingerprint, "_SEGMENT", 2**20)
        with fingerprint.opened(file) as descriptor:
            found.append(fingerprint.hash_open(descriptor, file))
    assert set(found) == {blake3(content).hexdigest()}


def test_a_file_that_was_left_alone_is_not_read_again(lab: Lab, tmp_path: Path) -> None:
    file = tmp_path / "data.jsonl"
    file.write_bytes(b"1")
    taken(lab, file)
    assert lab.store.datasets.hashes([str(file)]) == {}, "it was written a moment ago"
    time.sleep(2.1)
    real = taken(lab, file).hash
    ((stamp, known),) = lab.store.datasets.hashes([str(file)]).values()
    assert known == real
    lab.store.datasets.remember({str(file): (stamp, "what was kept")})
    assert taken(lab, file).hash == "what was kept"
    file.write_bytes(b"2")
    assert taken(lab, file).hash == blake3(b"2").hexdigest()


def test_same_size_and_same_time_do_not_hide_a_change(
    lab: Lab, tmp_path: Path, dice: random.Random, rounds: Callable[[int], int]
) -> None:
    file = tmp_path / "data.jsonl"
    moment = time.time_ns() - 10**12
    for n in range(rounds(500)):
        content = dice.randbytes(64)
        if n % 3 == 0 and file.exists():
            (tmp_path / "new").write_bytes(content)
            (tmp_path / "new").rename(file)
        else:
            file.write_bytes(content)
        os.utime(file, ns=(moment, moment))
        assert taken(lab, file).hash == blake3(content).hexdigest()


def test_a_change_within_the_clocks_granularity_is_found_after_it_was_cached(lab: Lab, tmp_path: Path) -> None:
    file = tmp_path / "data.jsonl"
    file.write_bytes(b"1")
    time.sleep(2.1)
    taken(lab, file)
    about = file.stat()
    file.write_bytes(b"2")
    os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert taken(lab, file).hash == blake3(b"2").hexdigest()


def test_whoever_cuts_a_file_short_while_it_is_hashed_kills_nobody(
    tmp_path: Path, dice: random.Random, rounds: Callable[[int], int]
) -> None:
    argv = [sys.executable, str(PROGRAMS / "cutting.py"), str(tmp_path / "large"), str(rounds(200)), str(dice.random())]
    done = subprocess.run(argv, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert int(done.stdout) > 0, "no cut came while a file was hashed"


def test_processes_adding_at_once_make_one_version(tmp_path: Path, dice: random.Random) -> None:
    place = folder(tmp_path / "data", {f"{n}.jsonl": b'{"a": 1}\n' * dice.randrange(1, 3000) for n in range(5)})
    argv = [sys.executable, str(PROGRAMS / "adding.py"), str(tmp_path / "home"), str(place), str(time.time() + 4)]
    started = [subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(8)]
    said: set[bytes] = set()
    for process in started:
        out, error = process.communicate(timeout=300)
        assert process.returncode == 0, error.decode()
        said.add(out.strip())
    with Lab(tmp_path / "home") as lab:
        (version,) = lab.datasets.list()
        assert said == {version.hash.encode()}
        assert version.places == (str(place),)
        copies = lab.datasets.snapshots.of(version.hash)
        assert [lab.datasets.snapshots.intact(copy, version.hash) for copy in copies] == [True]

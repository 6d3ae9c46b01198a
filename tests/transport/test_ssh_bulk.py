"""Large files over SSH: whole or not at all, gone on with after a break, and nowhere but where they belong."""

from __future__ import annotations

import hashlib
import threading
import time
from typing import TYPE_CHECKING

import pytest

from verl_lab.errors import TransportError
from verl_lab.transport.ssh import UnreachableError
from verl_lab.transport.ssh.agent.files import Arriving

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from pathlib import Path

    from cuttable_proxy import Proxy

    from verl_lab.transport.ssh import SshHost

    Move = Callable[..., str]

PATIENCE_S = 60.0


def test_transfer_that_breaks_goes_on_where_it_stopped(
    move: Move, far: SshHost, proxy: Proxy, tmp_path: Path, rounds: Callable[[int], int], dice: random.Random
):
    went_on = 0
    for number in range(rounds(50)):
        source, target = tmp_path / f"source{number}", tmp_path / f"target{number}"
        source.write_bytes(dice.randbytes(8_000_000))
        breaks = 3
        began_at: list[int] = []
        while True:
            first: list[int] = []
            stop_at = dice.randrange(1, 8_000_000)

            def progress(done: int, _total: int, stop_at: int = stop_at, first: list[int] = first) -> None:
                nonlocal breaks
                first.append(done)
                if done >= stop_at and breaks:
                    breaks -= 1
                    proxy.cut()

            until = time.monotonic() + PATIENCE_S
            try:
                move(far, source, target, progress)
                began_at += first[:1]
                break
            except UnreachableError:
                assert not target.exists() or target.read_bytes() == source.read_bytes()
                assert time.monotonic() < until
                time.sleep(0.05)
            began_at += first[:1]
        assert target.read_bytes() == source.read_bytes()
        assert not list(tmp_path.glob(".*"))
        went_on += any(place > 2**18 for place in began_at)
    assert went_on, "nothing was gone on with"


def test_part_that_is_not_the_files_beginning_is_sent_again(far: SshHost, tmp_path: Path):
    from verl_lab.transport.ssh.bulk import _token

    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"right" * 100_000)
    status = source.stat()
    part = tmp_path / f".target.{_token(str(source), status.st_size, status.st_mtime_ns)}.part"
    for wrong in (b"wrong" * 50_000, b"right" * 100_001):
        part.write_bytes(wrong)
        far.put(source, str(target))
        assert target.read_bytes() == source.read_bytes()


def test_fetched_part_that_is_wrong_is_thrown_away(far: SshHost, tmp_path: Path):
    from verl_lab.transport.ssh.bulk import _token

    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"right" * 100_000)
    status = source.stat()
    part = tmp_path / f".target.{_token(str(source), status.st_size, status.st_mtime_ns)}.part"
    part.write_bytes(b"wrong" * 50_000)
    with pytest.raises(TransportError, match="Fetch it again"):
        far.get(str(source), target)
    assert not target.exists()
    far.get(str(source), target)
    assert target.read_bytes() == source.read_bytes()


def test_link_in_place_of_the_part_is_refused(move: Move, far: SshHost, tmp_path: Path):
    from verl_lab.transport.ssh.bulk import _token

    source, target, elsewhere = tmp_path / "source", tmp_path / "target", tmp_path / "elsewhere"
    source.write_bytes(b"new")
    elsewhere.write_bytes(b"keep")
    status = source.stat()
    part = tmp_path / f".target.{_token(str(source), status.st_size, status.st_mtime_ns)}.part"
    part.symlink_to(elsewhere)
    with pytest.raises(TransportError, match="Could not"):
        move(far, source, target)
    assert elsewhere.read_bytes() == b"keep"


def test_two_that_send_the_same_file_at_once_leave_it_whole(
    move: Move, far: SshHost, tmp_path: Path, rounds: Callable[[int], int], dice: random.Random
):
    for number in range(rounds(20)):
        source, target = tmp_path / f"source{number}", tmp_path / f"target{number}"
        content = dice.randbytes(3_000_000)
        source.write_bytes(content)
        refused: list[TransportError] = []

        def one(source: Path = source, target: Path = target, refused: list[TransportError] = refused) -> None:
            try:
                move(far, source, target)
            except TransportError as error:
                refused.append(error)
            else:
                assert target.stat().st_size == 3_000_000

        threads = [threading.Thread(target=one) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(refused) < 3
        assert target.read_bytes() == content
        assert not list(tmp_path.glob(".*"))


def test_who_is_overtaken_does_not_put_the_part_of_another_in_place(tmp_path: Path):
    target, content = str(tmp_path / "target"), b"right" * 1000
    digest = hashlib.sha256(content).hexdigest()
    first, second = Arriving(target, "token"), Arriving(target, "token")
    first.take(0, content)
    second.take(0, content)
    first.finish(len(content), digest, 0o644)
    third = Arriving(target, "token")
    third.take(0, content[:100])
    with pytest.raises(ValueError, match="was faster"):
        second.finish(len(content), digest, 0o644)
    assert (tmp_path / "target").read_bytes() == content
    third.take(100, content[100:])
    third.finish(len(content), digest, 0o600)
    assert [entry.name for entry in tmp_path.iterdir()] == ["target"]


def test_who_begins_anew_leaves_others_what_they_wrote(tmp_path: Path):
    target, content = str(tmp_path / "target"), b"right" * 1000
    first = Arriving(target, "token")
    first.take(0, content[:100])
    second = Arriving(target, "token")
    second.restart()
    assert second.size == 0
    first.take(100, content[100:])
    with pytest.raises(ValueError, match="was faster"):
        first.finish(len(content), first.sha256, 0o644)
    second.take(0, content)
    second.finish(len(content), first.sha256, 0o644)
    assert (tmp_path / "target").read_bytes() == content
    assert [entry.name for entry in tmp_path.iterdir()] == ["target"]


def test_other_calls_are_answered_while_a_file_is_on_its_way(move: Move, far: SshHost, proxy: Proxy, tmp_path: Path):
    source = tmp_path / "source"
    source.write_bytes(b"x" * 60_000_000)
    thread = threading.Thread(target=move, args=(far, source, tmp_path / "target"))
    thread.start()
    asked = 0
    while thread.is_alive():
        assert far.stat("/")
        asked += 1
    thread.join()
    assert asked > 3
    assert (tmp_path / "target").stat().st_size == 60_000_000
    assert proxy.connections == 1

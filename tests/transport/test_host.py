"""A host, near and far: files, commands, and errors of one kind."""

from __future__ import annotations

import hashlib
import os
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from verl_lab.errors import TransportError
from verl_lab.transport.base import FileStat

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from pathlib import Path

    from verl_lab.transport.base import Host

    Move = Callable[..., str]

NASTY = ("", "a b", "it's", '"', "$(id)", "a\nb", "é", "\udcff")


def test_run_passes_arguments_untouched_and_adds_variables(host: Host):
    show = "import os, sys; sys.stdout.write(repr((sys.argv[1:], os.environ['ODD']))); sys.exit('PATH' in os.environ)"
    done = host.run([sys.executable, "-c", show, *NASTY], timeout_s=60, env={"ODD": "a\nb"})
    assert done.stdout.decode() == repr((list(NASTY), "a\nb"))
    assert (done.exit_code, done.stderr) == (1, b"")


def test_run_has_no_standard_input(host: Host):
    assert host.run(["cat"], timeout_s=60).stdout == b""


def test_command_that_hangs_is_ended(host: Host):
    with pytest.raises(TransportError, match="did not end within"):
        host.run(["sleep", "600"], timeout_s=0.1)


def test_detached_command_has_its_own_session_and_log(host: Host, tmp_path: Path):
    log = tmp_path / "log"
    log.write_text("before\n")
    show = "import os, sys; print(os.getpid() == os.getsid(0), os.getppid(), os.getcwd(), sys.argv[1:], flush=True)"
    pid = host.start_detached([sys.executable, "-c", show, *NASTY[:-1]], cwd=str(tmp_path), log=str(log))
    while log.read_text().count("\n") < 2:
        pass
    first, second = log.read_text().splitlines()
    assert first == "before"
    leads, parent, cwd, *_ = second.split()
    assert (leads, cwd) == ("True", str(tmp_path))
    assert int(parent) != os.getpid()
    assert str(list(NASTY[:-1])) in second
    assert pid > 1


def test_files_are_read_in_parts(files: Host, tmp_path: Path):
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    assert files.read(str(path)) == b"0123456789"
    assert files.read(str(path), 4) == b"456789"
    assert files.read(str(path), 4, 3) == b"456"
    assert files.read(str(path), 40) == b""


def test_stat_and_folders(host: Host, tmp_path: Path):
    host.make_folder(str(tmp_path / "a" / "b"))
    host.make_folder(str(tmp_path / "a" / "b"))
    (tmp_path / "z").write_bytes(b"123")
    (tmp_path / "link").symlink_to("z")
    stat = (tmp_path / "z").stat()
    assert host.list_folder(str(tmp_path)) == ["a", "link", "z"]
    assert host.list_folder(str(tmp_path / "none")) == []
    assert host.stat(str(tmp_path / "link")) == FileStat(3, stat.st_mtime_ns)
    assert host.stat(str(tmp_path / "none")) is None
    assert host.stat(str(tmp_path / "z" / "below")) is None
    folder = host.stat(str(tmp_path / "a"))
    assert folder is not None
    assert folder.is_dir


def test_write_new_writes_once_under_contention(files: Host, tmp_path: Path):
    path = str(tmp_path / "once")
    contents = [bytes([n]) * 100_000 for n in range(16)]
    won: list[bytes] = []

    def write(content: bytes) -> None:
        if files.write_new(path, content):
            won.append(content)

    threads = [threading.Thread(target=write, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert files.read(path) == won[0]
    assert [entry.name for entry in tmp_path.iterdir()] == ["once"]


def test_reader_never_sees_a_part_of_an_atomic_write(files: Host, tmp_path: Path, rounds: Callable[[int], int]):
    path = str(tmp_path / "file")
    files.write_atomic(path, b"0" * 50_000)
    seen: list[bytes] = []
    is_over = threading.Event()

    def read() -> None:
        while not is_over.is_set():
            seen.append(files.read(path))

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(rounds(500)):
        files.write_atomic(path, bytes([48 + number % 10]) * 50_000)
    is_over.set()
    reader.join()
    assert {(len(content), len(set(content))) for content in seen} == {(50_000, 1)}
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_written_files_have_the_users_usual_mode(host: Host, tmp_path: Path):
    (tmp_path / "usual").touch()
    host.write_atomic(str(tmp_path / "ours"), b"")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.parametrize("size", [0, 1, 2**18, 2**20 + 1, 10_000_001])
def test_file_arrives_as_it_is(move: Move, host: Host, tmp_path: Path, dice: random.Random, size: int):
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(dice.randbytes(size))
    source.chmod(0o640)
    target.write_bytes(b"old")
    told: list[tuple[int, int]] = []
    digest = move(host, source, target, lambda done, total: told.append((done, total)))
    assert target.read_bytes() == source.read_bytes()
    assert digest == hashlib.sha256(source.read_bytes()).hexdigest() == host.sha256(str(target))
    assert target.stat().st_mode & 0o777 == 0o640
    assert [entry.name for entry in sorted(tmp_path.iterdir())] == ["source", "target"]
    assert told == sorted(told)
    assert not size or told[-1] == (size, size)


def test_file_that_changes_on_its_way_is_refused(move: Move, host: Host, tmp_path: Path):
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"a" * 20_000_000)
    is_changed = False

    def progress(_done: int, _total: int) -> None:
        nonlocal is_changed
        if not is_changed:
            is_changed = True
            with source.open("r+b") as file:
                file.write(b"other")
                file.seek(-5, os.SEEK_END)
                file.write(b"other")

    try:
        move(host, source, target, progress)
    except TransportError:
        assert not target.exists()
    else:  # read only after it had changed, or shared before
        assert target.read_bytes() in (source.read_bytes(), b"a" * 20_000_000)
    assert not list(tmp_path.glob(".*"))


def test_link_at_the_target_is_replaced_and_not_followed(move: Move, host: Host, tmp_path: Path):
    source, target, elsewhere = tmp_path / "source", tmp_path / "target", tmp_path / "elsewhere"
    source.write_bytes(b"new")
    elsewhere.write_bytes(b"keep")
    target.symlink_to(elsewhere)
    move(host, source, target)
    assert elsewhere.read_bytes() == b"keep"
    assert not target.is_symlink()


def test_what_is_no_plain_file_is_refused(move: Move, host: Host, tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    for source in (tmp_path / "none", tmp_path, tmp_path / "none" / "x", tmp_path / "pipe"):
        with pytest.raises(TransportError):
            move(host, source, tmp_path / "target")
    with pytest.raises(TransportError):
        host.sha256(str(tmp_path / "none"))
    assert [entry.name for entry in tmp_path.iterdir()] == ["pipe"]


def test_folder_of_the_target_is_not_made(move: Move, host: Host, tmp_path: Path):
    (tmp_path / "source").write_bytes(b"x")
    with pytest.raises(TransportError, match="Could not"):
        move(host, tmp_path / "source", tmp_path / "none" / "target")
    assert [entry.name for entry in tmp_path.iterdir()] == ["source"]


CALLS: dict[str, Callable[[Host, str], object]] = {
    "read": lambda host, at: host.read(at),
    "write": lambda host, at: host.write_atomic(at + "/x", b""),
    "write_new": lambda host, at: host.write_new(at + "/x", b""),
    "list a file": lambda host, _: host.list_folder("/proc/self/cmdline"),
    "folder below a file": lambda host, _: host.make_folder("/proc/self/cmdline/x"),
    "null in a path": lambda host, _: host.stat("/a\0b"),
}
COMMANDS: dict[str, Callable[[Host, str], object]] = {
    "no program": lambda host, at: host.run([at], timeout_s=60),
    "null in an argument": lambda host, _: host.run(["true", "\0"], timeout_s=60),
    "no program, detached": lambda host, at: host.start_detached([at], cwd="/", log="/dev/null"),
    "no folder, detached": lambda host, at: host.start_detached(["true"], cwd=at, log="/dev/null"),
}


@pytest.mark.parametrize("call", CALLS)
def test_what_the_file_system_refuses_is_a_transport_error(files: Host, tmp_path: Path, call: str):
    with pytest.raises(TransportError, match="Could not"):
        CALLS[call](files, str(tmp_path / "none"))


@pytest.mark.parametrize("call", COMMANDS)
def test_command_that_cannot_be_started_is_a_transport_error(host: Host, tmp_path: Path, call: str):
    with pytest.raises(TransportError, match="Could not"):
        COMMANDS[call](host, str(tmp_path / "none"))

"""This machine as a host: files, commands, and errors of one kind."""

from __future__ import annotations

import os
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from verl_lab.errors import TransportError
from verl_lab.transport.base import FileStat
from verl_lab.transport.local import LocalHost

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from verl_lab.transport.base import Host

HOST: Host = LocalHost()
NASTY = ("", "a b", "it's", '"', "$(id)", "a\nb", "é", "\udcff")


def test_run_passes_arguments_untouched_and_adds_variables():
    show = "import os, sys; sys.stdout.write(repr((sys.argv[1:], os.environ['ODD']))); sys.exit('PATH' in os.environ)"
    done = HOST.run([sys.executable, "-c", show, *NASTY], timeout_s=60, env={"ODD": "a\nb"})
    assert done.stdout.decode() == repr((list(NASTY), "a\nb"))
    assert (done.exit_code, done.stderr) == (1, b"")


def test_run_has_no_standard_input():
    assert HOST.run(["cat"], timeout_s=60).stdout == b""


def test_command_that_hangs_is_ended():
    with pytest.raises(TransportError, match="did not end within"):
        HOST.run(["sleep", "600"], timeout_s=0.1)


def test_detached_command_has_its_own_session_and_log(tmp_path: Path):
    log = tmp_path / "log"
    log.write_text("before\n")
    show = "import os, sys; print(os.getpid() == os.getsid(0), os.getppid(), os.getcwd(), sys.argv[1:], flush=True)"
    pid = HOST.start_detached([sys.executable, "-c", show, *NASTY[:-1]], cwd=str(tmp_path), log=str(log))
    while log.read_text().count("\n") < 2:
        pass
    first, second = log.read_text().splitlines()
    assert first == "before"
    leads, parent, cwd, *_ = second.split()
    assert (leads, cwd) == ("True", str(tmp_path))
    assert int(parent) != os.getpid()
    assert str(list(NASTY[:-1])) in second
    assert pid > 1


def test_files_are_read_in_parts(tmp_path: Path):
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    assert HOST.read(str(path)) == b"0123456789"
    assert HOST.read(str(path), 4) == b"456789"
    assert HOST.read(str(path), 4, 3) == b"456"
    assert HOST.read(str(path), 40) == b""


def test_stat_and_folders(tmp_path: Path):
    HOST.make_folder(str(tmp_path / "a" / "b"))
    HOST.make_folder(str(tmp_path / "a" / "b"))
    (tmp_path / "z").write_bytes(b"123")
    (tmp_path / "link").symlink_to("z")
    stat = (tmp_path / "z").stat()
    assert HOST.list_folder(str(tmp_path)) == ["a", "link", "z"]
    assert HOST.list_folder(str(tmp_path / "none")) == []
    assert HOST.stat(str(tmp_path / "link")) == FileStat(3, stat.st_mtime_ns)
    assert HOST.stat(str(tmp_path / "none")) is None
    assert HOST.stat(str(tmp_path / "z" / "below")) is None
    folder = HOST.stat(str(tmp_path / "a"))
    assert folder is not None
    assert folder.is_dir


def test_write_new_writes_once_under_contention(tmp_path: Path):
    path = str(tmp_path / "once")
    contents = [bytes([n]) * 100_000 for n in range(16)]
    won: list[bytes] = []

    def write(content: bytes) -> None:
        if HOST.write_new(path, content):
            won.append(content)

    threads = [threading.Thread(target=write, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert HOST.read(path) == won[0]
    assert [entry.name for entry in tmp_path.iterdir()] == ["once"]


def test_reader_never_sees_a_part_of_an_atomic_write(tmp_path: Path, rounds: Callable[[int], int]):
    path = str(tmp_path / "file")
    HOST.write_atomic(path, b"0" * 50_000)
    seen: list[bytes] = []
    is_over = threading.Event()

    def read() -> None:
        while not is_over.is_set():
            seen.append(HOST.read(path))

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(rounds(500)):
        HOST.write_atomic(path, bytes([48 + number % 10]) * 50_000)
    is_over.set()
    reader.join()
    assert {(len(content), len(set(content))) for content in seen} == {(50_000, 1)}
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_written_files_have_the_users_usual_mode(tmp_path: Path):
    (tmp_path / "usual").touch()
    HOST.write_atomic(str(tmp_path / "ours"), b"")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.parametrize(
    "call",
    [
        HOST.read,
        lambda at: HOST.write_atomic(at + "/x", b""),
        lambda at: HOST.write_new(at + "/x", b""),
        lambda _: HOST.list_folder("/proc/self/cmdline"),
        lambda _: HOST.make_folder("/proc/self/cmdline/x"),
        lambda _: HOST.stat("a\0b"),
        lambda at: HOST.run([at], timeout_s=9),
        lambda _: HOST.run(["true", "\0"], timeout_s=9),
        lambda at: HOST.start_detached([at], cwd="/", log="/dev/null"),
        lambda at: HOST.start_detached(["true"], cwd=at, log="/dev/null"),
    ],
)
def test_what_the_system_refuses_is_a_transport_error(tmp_path: Path, call: Callable[[str], object]):
    with pytest.raises(TransportError, match="Could not"):
        call(str(tmp_path / "none"))

"""Networks that break, servers that go, agents that die: nothing lost, nothing doubled, and said as it is."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cuttable_proxy import Proxy
from ssh_server import QUICK, Server

from verl_lab.errors import TransportError
from verl_lab.transport.ssh import Timings, UnreachableError

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from verl_lab.transport.base import Watcher
    from verl_lab.transport.ssh import SshHost

PATIENCE_S = 60.0


def eventually(look: Callable[[], object]) -> object:
    """Call until it neither raises nor says no."""
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            found = look()
        except TransportError:
            if time.monotonic() > until:
                raise
            found = None
        if found:
            return found
        assert time.monotonic() < until
        time.sleep(0.01)


def wait_for_ever(watcher: Watcher) -> None:
    while True:
        watcher.wait(PATIENCE_S)


def test_call_after_a_cut_connects_again(far: SshHost, proxy: Proxy, tmp_path: Path):
    (tmp_path / "file").write_bytes(b"content")
    for _ in range(5):
        assert eventually(lambda: far.read(str(tmp_path / "file"))) == b"content"
        proxy.cut()
    assert proxy.connections >= 5


def test_cut_in_the_middle_of_an_answer_is_unreachable_and_the_next_call_is_whole(
    far: SshHost, proxy: Proxy, tmp_path: Path, rounds: Callable[[int], int], dice: random.Random
):
    content = dice.randbytes(2_000_000)
    (tmp_path / "file").write_bytes(content)
    broke = 0
    for _ in range(rounds(100)):
        eventually(far.connect)
        proxy.cut_after = dice.randrange(1, 2_000_000)
        try:
            assert far.read(str(tmp_path / "file")) == content
        except UnreachableError as error:
            broke += "unreachable" in str(error) and error.hint is not None
        assert eventually(lambda: far.read(str(tmp_path / "file"))) == content
    assert broke


def test_connection_that_breaks_while_it_is_made_is_no_refusal(
    far: SshHost, proxy: Proxy, rounds: Callable[[int], int], dice: random.Random
):
    """The handshake and the login are some 5 kB, and after a refusal a host would not be asked again."""
    broke = 0
    for _ in range(rounds(200)):
        eventually(lambda: far.stat("/"))
        before = proxy.connections
        proxy.cut()
        proxy.cut_after = dice.randrange(1, 6_000)
        eventually(lambda: far.stat("/"))
        broke += proxy.connections > before + 1
        proxy.cut_after = None
    assert broke


def test_write_that_was_cut_leaves_the_old_or_the_new(
    far: SshHost, proxy: Proxy, tmp_path: Path, rounds: Callable[[int], int], dice: random.Random
):
    path = tmp_path / "file"
    path.write_bytes(b"0" * 300_000)
    for number in range(rounds(100)):
        eventually(far.connect)
        threading.Timer(dice.random() * 0.02, proxy.cut).start()
        with contextlib.suppress(UnreachableError):
            far.write_atomic(str(path), bytes([49 + number % 9]) * 300_000)
        content = path.read_bytes()
        assert len(content) == 300_000
        assert len(set(content)) == 1


def test_write_new_that_is_retried_over_cuts_is_done_once(
    far: SshHost, proxy: Proxy, tmp_path: Path, rounds: Callable[[int], int], dice: random.Random
):
    for number in range(rounds(100)):
        path = tmp_path / str(number)
        eventually(far.connect)
        threading.Timer(dice.random() * 0.005, proxy.cut).start()
        eventually(lambda path=path: far.write_new(str(path), b"mine") or far.stat(str(path)))
        assert path.read_bytes() == b"mine"
    assert all(not entry.name.startswith(".") or entry.name.count(".") == 2 for entry in tmp_path.iterdir())


def test_silent_network_is_noticed_and_a_new_one_used(sshd: Server, tmp_path: Path):
    proxy = Proxy(sshd.port)
    host = sshd.host(proxy.port, Timings(connect_s=5, request_s=60, keepalive_s=0.2, longest_pause_s=0.2))
    try:
        host.connect()
        proxy.is_silent = True
        with pytest.raises(UnreachableError, match="nothing was heard"):
            host.stat("/")
        proxy.cut()
        proxy.is_silent = False
        assert eventually(lambda: host.stat("/"))
    finally:
        host.close()
        proxy.close()


def test_network_that_goes_silent_while_connecting_ends_in_time(sshd: Server):
    proxy = Proxy(sshd.port)
    proxy.is_silent = True
    host = sshd.host(proxy.port, Timings(connect_s=0.5, request_s=5, keepalive_s=0.2, longest_pause_s=0.1))
    try:
        with pytest.raises(UnreachableError):
            host.stat("/")
    finally:
        host.close()
        proxy.cut()
        proxy.is_silent = False
        proxy.close()


def test_host_that_is_down_is_not_stormed(sshd: Server):
    proxy = Proxy(sshd.port)
    proxy.refuses = True
    host = sshd.host(proxy.port, Timings(connect_s=2, longest_pause_s=60))
    try:
        for _ in range(200):
            with pytest.raises(UnreachableError):
                host.stat("/")
        assert 1 <= proxy.refused < 20
    finally:
        host.close()
        proxy.close()


def test_server_that_restarts_is_used_again_and_a_watcher_goes_on(own_sshd: Server, tmp_path: Path):
    host = own_sshd.host()
    watched = tmp_path / "watched"
    watched.mkdir()
    watcher = host.watcher()
    watcher.watch([str(watched)])
    try:
        for number in range(3):
            assert eventually(lambda: str(watched) in watcher.wait(PATIENCE_S))
            own_sshd.stop()
            with pytest.raises(UnreachableError):
                wait_for_ever(watcher)
            (watched / str(number)).touch()
            own_sshd.start()
    finally:
        watcher.close()
        host.close()


def test_agent_that_is_killed_is_started_again_on_the_same_connection(
    far: SshHost, proxy: Proxy, tmp_path: Path, rounds: Callable[[int], int]
):
    watcher = far.watcher()
    watcher.watch([str(tmp_path)])
    for number in range(rounds(50)):
        eventually(lambda: str(tmp_path) in watcher.wait(PATIENCE_S))
        pid = far.connect()["pid"]
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(UnreachableError, match="agent ended"):
            wait_for_ever(watcher)
        assert far.connect()["pid"] != pid
        (tmp_path / str(number)).touch()
    watcher.close()
    assert proxy.connections == 1


def test_command_that_nobody_waits_for_any_more_is_ended_and_a_detached_one_is_not(
    far: SshHost, proxy: Proxy, tmp_path: Path
):
    pid_of = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(600)"
    waited, stays = tmp_path / "waited", tmp_path / "stays"
    kept = far.start_detached(["python3", "-c", pid_of, str(stays)], cwd="/", log="/dev/null")
    caught: list[TransportError] = []

    def run() -> None:
        try:
            far.run(["python3", "-c", pid_of, str(waited)], timeout_s=600)
        except TransportError as error:
            caught.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    eventually(lambda: waited.exists() and waited.read_text() and stays.exists() and stays.read_text())
    proxy.cut()
    thread.join(PATIENCE_S)
    assert isinstance(caught[0], UnreachableError)
    eventually(lambda: not is_alive(int(waited.read_text())))
    assert int(stays.read_text()) == kept
    assert is_alive(kept)
    os.kill(kept, signal.SIGKILL)


def is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_agent_ends_with_its_client(sshd: Server):
    host = sshd.host()
    pid = host.connect()["pid"]
    host.close()
    eventually(lambda: not is_alive(pid))


def test_one_session_a_connection_is_enough_for_everything(tmp_path: Path):
    server = Server(tmp_path / "sshd", "MaxSessions 1")
    host = server.host()
    (tmp_path / "big").write_bytes(b"x" * 3_000_000)
    watchers = [host.watcher() for _ in range(20)]
    try:
        for watcher in watchers:
            watcher.watch([str(tmp_path)])
            assert str(tmp_path) in watcher.wait(PATIENCE_S)
        threads = [
            threading.Thread(target=host.put, args=(tmp_path / "big", str(tmp_path / f"big{number}")))
            for number in range(8)
        ]
        for thread in threads:
            thread.start()
        assert host.run(["echo", "x"], timeout_s=PATIENCE_S).stdout == b"x\n"
        for thread in threads:
            thread.join()
        assert all((tmp_path / f"big{number}").stat().st_size == 3_000_000 for number in range(8))
        assert server.log().count("Starting session") == 1
    finally:
        for watcher in watchers:
            watcher.close()
        host.close()
        server.stop()


def test_no_thread_and_no_descriptor_stay_behind(sshd: Server, tmp_path: Path, rounds: Callable[[int], int]):
    def held() -> tuple[int, int]:
        return len(list(Path("/proc/self/fd").iterdir())), threading.active_count()

    def use() -> None:
        host = sshd.host()
        watcher = host.watcher()
        watcher.watch([str(tmp_path)])
        watcher.wait(PATIENCE_S)
        host.read("/etc/hostname")
        host.close()

    use()
    before = held()
    for _ in range(rounds(100)):
        use()
    eventually(lambda: held()[0] <= before[0] and held()[1] <= before[1])


def test_close_while_connecting_ends_it(sshd: Server):
    proxy = Proxy(sshd.port)
    proxy.is_silent = True
    host = sshd.host(proxy.port, QUICK)
    watcher = host.watcher()
    watcher.watch(["/"])
    ended = threading.Event()

    def wait() -> None:
        with contextlib.suppress(TransportError):
            watcher.wait(PATIENCE_S)
        ended.set()

    threading.Thread(target=wait).start()
    time.sleep(0.05)
    watcher.wake()
    assert ended.wait(PATIENCE_S)
    watcher.close()
    host.close()
    proxy.cut()
    proxy.is_silent = False
    proxy.close()

"""Jobs and launches on a host over SSH, and here, when whoever started them dies or the network goes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from verl_lab.domain.run import RunState
from verl_lab.errors import UnreachableError, VerlLabError
from verl_lab.launch import supervisor
from verl_lab.launch.launcher import Launcher

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator

    from cuttable_proxy import Proxy
    from ssh_server import Server

    from verl_lab.transport.ssh import SshHost

    from .conftest import Bench

PROGRAM = Path(__file__).parent / "programs" / "clients.py"
BATCH = 10


class Clients:
    """Processes that start a run each, and what they said."""

    def __init__(self, root: Path, *far: str) -> None:
        command = [sys.executable, str(PROGRAM), str(root), *far]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.said: dict[str, dict[str, Any]] = {}
        self._hearing = threading.Thread(target=self._hear, daemon=True)
        self._hearing.start()

    def begin(self, run: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{run}\n")
        self._process.stdin.flush()

    def kill(self, run: str) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.said[run]["pid"], signal.SIGKILL)

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        for run in self.said:
            self.kill(run)
        self._hearing.join(60)

    def _hear(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                said = json.loads(line)
                self.said[said["run"]] = {**self.said.get(said["run"], {}), **said}


def there(server: Server, port: int) -> tuple[str, ...]:
    server.known()
    return str(port), str(server.user_key), str(server.folder / "known_hosts")


@pytest.fixture(params=["local", "ssh"])
def clients(request: pytest.FixtureRequest, bench: Bench) -> Iterator[Clients]:
    """Return what starts runs, here and on a host over a network that can be cut."""
    far = ()
    if request.param == "ssh":
        far = there(request.getfixturevalue("sshd"), request.getfixturevalue("proxy").port)
    clients = Clients(bench.root, *far)
    yield clients
    clients.close()


def test_jobs_outlive_whoever_started_them_and_their_exit_codes_are_told(
    bench: Bench, clients: Clients, request: pytest.FixtureRequest, rounds: Callable[[int], int], dice: random.Random
):
    is_far = "ssh" in request.node.callspec.id
    jobs = rounds(100)
    for first in range(0, jobs, BATCH):
        codes: dict[str, int] = {}
        for number in range(first, min(first + BATCH, jobs)):
            run = f"job-{number}"
            codes[run] = dice.choice([0, 1, 7, 77, 137])
            end = "kill -9 $$" if codes[run] == 137 else f"exit {codes[run]}"
            wait = f"while [ ! -e {bench.root.parent / 'end'}-{first} ]; do sleep 0.05; done; {end}"
            bench.create(run, argv=("sh", "-c", wait))
            clients.begin(run)
        bench.eventually(lambda codes=codes: all(clients.said.get(run, {}).get("started") for run in codes))
        for run in codes:
            how = dice.choice(["client", "agent", "network"]) if is_far else "client"
            if how == "agent":
                os.kill(clients.said[run]["agent"], signal.SIGKILL)
            elif how == "client":
                clients.kill(run)
        if is_far:
            request.getfixturevalue("proxy").cut()
        Path(f"{bench.root.parent / 'end'}-{first}").touch()
        for run, code in codes.items():
            status = bench.eventually(lambda run=run: found if (found := ended(bench, run)) else None)
            # No step was told of, so that even exit code 0 is no completion.
            assert (status["exit_code"], status["state"], status["attempt"]) == (code, "failed", 1)
            clients.kill(run)


def ended(bench: Bench, run: str) -> dict[str, Any] | None:
    """Return what the supervisor wrote last, once it has; nobody else may have said it in its place."""
    found = bench.status_file(run)
    return found if RunState(found["state"]).is_over else None


def test_launch_over_ssh_killed_or_cut_anywhere_and_retried_starts_one_process(
    bench: Bench, sshd: Server, far: SshHost, proxy: Proxy, rounds: Callable[[int], int], dice: random.Random
):
    clients = Clients(bench.root, *there(sshd, sshd.port))
    launcher = Launcher(far, str(bench.root), python=sys.executable, is_far=True)
    done: dict[str, tuple[Path, str]] = {}
    begun_before = 0
    try:
        client_s, launch_s = _unharmed(bench, launcher, clients)
        for number in range(rounds(500)):
            run, begun = f"cut-{number}", bench.root.parent / f"begun-{number}"
            folder = bench.create(run, argv=("sh", "-c", f"echo $$ >> {begun}; exec sleep 600"))
            [victim] = dice.choices(["client", "network", "agent", "launch", "supervisor", "both"], [1, 2, 2, 3, 3, 3])
            if victim == "client":
                clients.begin(run)
                bench.eventually(lambda run=run: run in clients.said)
                time.sleep(dice.uniform(0, client_s))
                clients.kill(run)
            else:
                agent = eventually_connected(far)
                starting = threading.Thread(target=start, args=(launcher, run))
                starting.start()
                time.sleep(dice.uniform(0, launch_s))
                if victim == "network":
                    proxy.cut()
                else:
                    launch, guard = launching(folder, agent)
                    chosen = {"agent": (agent,), "launch": launch, "supervisor": guard, "both": (*launch, *guard)}
                    for pid in chosen[victim]:
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(pid, signal.SIGKILL)
                starting.join()
            begun_before += begun.exists()
            status = bench.eventually(lambda run=run: start(launcher, run))
            assert status in (RunState.STARTING, RunState.RUNNING), f"round {number}: {victim}"
            bench.eventually(lambda path=begun: path.exists() and path.read_text())
            os.kill(bench.status_file(run)["pid"], signal.SIGKILL)
            done[run] = begun, victim
        assert 0 < begun_before < len(done), "it was always too early, or always too late"
        for run, (begun, victim) in done.items():
            bench.eventually(lambda run=run: ended(bench, run))
            assert len(begun.read_text().split()) == 1, f"{run}: {victim}"
            assert not bench.attempt(run, 2).folder.exists()
    finally:
        clients.close()


def _unharmed(bench: Bench, launcher: Launcher, clients: Clients) -> tuple[float, float]:
    """Return somewhat more than what a launch takes here: by a client that connects first, and by itself."""
    taken: list[float] = []
    for run in ("by-client", "by-itself"):
        bench.create(run, argv=("sleep", "600"))
        before = time.monotonic()
        if run == "by-client":
            clients.begin(run)
            bench.eventually(lambda run=run: clients.said.get(run, {}).get("started"))
        else:
            launcher.start(run)
        taken.append(1.3 * (time.monotonic() - before))
        os.kill(bench.status_file(run)["pid"], signal.SIGKILL)
    return taken[0], taken[1]


def eventually_connected(host: SshHost) -> int:
    while True:
        with contextlib.suppress(UnreachableError):
            return host.connect()["pid"]
        time.sleep(0.05)


def start(launcher: Launcher, run: str) -> RunState | None:
    """Start a run; None if the network, or what starts it over there, did not hold that long."""
    try:
        return launcher.start(run).state
    except VerlLabError:
        return None


def launching(folder: Path, agent: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return what the agent runs to launch, and the supervisor; what that forked to become training looks the same."""
    found: dict[int, int] = {}
    for process in supervisor.processes():
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{process.pid}/cmdline").read_bytes().split(b"\0")
            if os.fsencode(folder) in words and b"start" in words:
                found[process.pid] = process.parent
    launch = {pid for pid, parent in found.items() if parent == agent}
    rest = {pid: parent for pid, parent in found.items() if pid not in launch}
    return tuple(launch), tuple(pid for pid, parent in rest.items() if parent not in rest)

"""What must hold when processes die, pids return, and disks fill."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from verl_lab.domain.run import RunState
from verl_lab.launch import supervisor
from verl_lab.launch.launcher import Launcher
from verl_lab.transport.local import LocalHost

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from .conftest import Bench

SUPERVISOR = [sys.executable, "-I", "-S", str(Path(supervisor.__file__))]
KERNEL = """
import sys, time
from verl_lab.launch.launcher import Launcher
from verl_lab.transport.local import LocalHost
Launcher(LocalHost(), sys.argv[1]).start(sys.argv[2])
print("started", flush=True)
time.sleep(600)
"""


def test_job_outlives_the_kernel_that_started_it(bench: Bench):
    bench.create("orphan", "steps=60", "step_s=0.05", "exit=7")
    kernel = subprocess.Popen(
        [sys.executable, "-c", KERNEL, str(bench.root), "orphan"], stdout=subprocess.PIPE, start_new_session=True
    )
    assert kernel.stdout is not None
    assert kernel.stdout.readline() == b"started\n"
    bench.at_step("orphan")
    os.killpg(kernel.pid, signal.SIGKILL)
    kernel.wait()
    kernel.stdout.close()
    assert bench.launcher.status("orphan").state is RunState.RUNNING
    status = bench.finish("orphan")
    assert (status.state, status.exit_code, status.step) == (RunState.FAILED, 7, 60)


def test_training_outlives_its_supervisor_and_is_lost_when_both_are_gone(bench: Bench):
    bench.start("alone", "steps=99999")
    bench.at_step("alone")
    found = bench.status_file("alone")
    bench.kill(found["supervisor_pid"])
    assert bench.launcher.status("alone").state is RunState.RUNNING
    bench.kill(found["pid"])
    status = bench.launcher.status("alone")
    assert (status.state, status.exit_code) == (RunState.LOST, None)
    assert "were killed" in (status.reason or "")
    # It can be taken up again, and the older attempt's end is then on record.
    assert bench.launcher.resume("alone").attempt == 2
    assert bench.status_file("alone", 1)["state"] == "lost"
    bench.launcher.stop("alone", now=True)
    assert bench.finish("alone").state is RunState.STOPPED


def test_stop_of_a_run_without_supervisor_is_seen_through(bench: Bench):
    bench.start("adopted", "steps=2", "step_s=600")
    bench.until("adopted", lambda status: status.phase == "training")
    first = bench.status_file("adopted")
    bench.kill(first["supervisor_pid"])
    bench.launcher.stop("adopted", grace_s=0.1)
    status = bench.finish("adopted")
    assert (status.state, status.attempt) == (RunState.STOPPED, 1)
    assert not bench.is_running(first["pid"])
    own = [event for event in bench.events("adopted") if event.source == "supervisor"]
    assert [event.seq for event in own] == list(range(len(own)))


def test_retried_start_takes_over_from_a_killed_supervisor(bench: Bench):
    bench.start("retaken", "steps=99999")
    bench.at_step("retaken")
    first = bench.status_file("retaken")
    bench.kill(first["supervisor_pid"])
    assert bench.launcher.start("retaken").attempt == 1
    second = bench.eventually(
        lambda: now if (now := bench.status_file("retaken"))["supervisor_pid"] != first["supervisor_pid"] else None
    )
    assert second["pid"] == first["pid"]
    assert bench.is_running(second["supervisor_pid"])
    bench.launcher.stop("retaken")
    assert bench.finish("retaken").state is RunState.STOPPED


def test_lost_run_leaves_no_process_when_it_is_resumed(bench: Bench, tmp_path: Path):
    pids = tmp_path / "pids"
    bench.start("leftover", "steps=99999", f"stray={pids}")
    bench.at_step("leftover")
    found = bench.status_file("leftover")
    marked = int(pids.read_text().split()[0])
    bench.kill(found["supervisor_pid"])
    bench.kill(found["pid"])
    assert bench.is_running(marked)
    bench.launcher.resume("leftover")
    assert not bench.is_running(marked)
    bench.launcher.stop("leftover", now=True)
    bench.finish("leftover")
    os.kill(int(pids.read_text().split()[1]), signal.SIGKILL)  # it lost its mark, and its supervisor: nobody can tell


def craft(bench: Bench, run: str, **fields: object) -> None:
    """Make a status file as a supervisor that was killed leaves it."""
    bench.create(run)
    attempt = bench.attempt(run)
    attempt.folder.mkdir(parents=True)
    status = {"version": 1, "run": run, "attempt": 1, "state": "running", "step": 3, "total": 9, "updated": 1.0}
    attempt.status.write_text(json.dumps({**status, "boot_id": supervisor.boot_id(), **fields}))


def test_reused_pid_is_neither_taken_for_training_nor_signalled(bench: Bench):
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    try:
        found = supervisor.look_up(stranger.pid)
        assert found is not None
        craft(bench, "reused", pid=stranger.pid, process_start=found.start - 1, supervisor_pid=stranger.pid,
              supervisor_start=found.start - 1)  # fmt: skip
        assert bench.launcher.status("reused").state is RunState.LOST
        supervisor.send(found._replace(start=found.start - 1), signal.SIGKILL)
        bench.launcher.resume("reused")
        bench.finish("reused")
        assert stranger.poll() is None
        craft(bench, "same", pid=stranger.pid, process_start=found.start)
        assert bench.launcher.status("same").state is RunState.RUNNING
    finally:
        stranger.kill()
        stranger.wait()
    assert bench.launcher.status("same").state is RunState.LOST


def test_reboot_is_named_as_the_reason(bench: Bench):
    me = supervisor.look_up(os.getpid())
    assert me is not None
    craft(bench, "rebooted", pid=me.pid, process_start=me.start, boot_id="another")
    status = bench.launcher.status("rebooted")
    assert status.state is RunState.LOST
    assert "rebooted" in (status.reason or "")


def test_many_launches_at_once_start_one_process(bench: Bench, tmp_path: Path):
    begun = tmp_path / "begun"
    folder = bench.create("crowd", "steps=20", "step_s=0.05", f"begun={begun}")
    command = [*SUPERVISOR, "start", str(folder)]
    launches = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(50)]
    answers = [launch.communicate() for launch in launches]
    assert [launch.returncode for launch in launches] == [0] * 50
    assert {json.loads(out)["attempt"] for out, _ in answers} == {1}
    assert bench.finish("crowd").state is RunState.COMPLETED
    assert len(begun.read_text().split()) == 1


def test_launch_killed_anywhere_and_retried_starts_one_process(
    bench: Bench, tmp_path: Path, dice: random.Random, rounds: Callable[[int], int]
):
    for number in range(rounds(500)):
        run, begun = f"cut-{number}", tmp_path / f"begun-{number}"
        # `sh` says in one short step that it was started; starting Python 500 times would take minutes.
        folder = bench.create(run, argv=("sh", "-c", f"echo $$ >> {begun}; exec sleep 600"))
        launch = subprocess.Popen(
            [*SUPERVISOR, "start", str(folder)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(dice.uniform(0, 0.12))
        daemon = supervisor_of(folder, launch.pid)
        for victim in dice.choice([(launch.pid,), daemon, (launch.pid, *daemon)]):
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
        launch.wait()
        assert bench.launcher.start(run).state is RunState.STARTING
        bench.eventually(lambda path=begun: path.exists() and path.read_text())
        os.kill(bench.status_file(run)["pid"], signal.SIGKILL)
        bench.finish(run)
        assert len(begun.read_text().split()) == 1, f"round {number}"
        assert not bench.attempt(run, 2).folder.exists()


def supervisor_of(folder: Path, launch: int) -> tuple[int, ...]:
    """Return the supervisor's pid if there is one; what it forked to become training looks the same."""
    found: dict[int, int] = {}
    for process in supervisor.processes():
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{process.pid}/cmdline").read_bytes().split(b"\0")
            if os.fsencode(folder) in words and b"start" in words and process.pid != launch:
                found[process.pid] = process.parent
    return tuple(pid for pid, parent in found.items() if parent not in found)


@pytest.fixture
def small_disk(disk_of: Callable[[str], Path]) -> Path:
    """Return a file system of its own that a test can fill."""
    return disk_of("256k")


def fill(place: Path) -> Path:
    ballast = place / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
    return ballast


def test_full_disk_ends_neither_training_nor_supervisor(bench: Bench, small_disk: Path, tmp_path: Path):
    bench.root = small_disk
    bench.launcher = Launcher(LocalHost(), str(small_disk))
    # It writes nothing, so that the disk is full for the supervisor alone; a file elsewhere ends it.
    end = tmp_path / "end"
    wait = f"import os, time\nwhile not os.path.exists({str(end)!r}): time.sleep(0.05)\nraise SystemExit(4)"
    bench.start("full", argv=(sys.executable, "-c", wait))
    found = bench.status_file("full")
    ballast = fill(small_disk)
    before = bench.status_file("full")["updated"]
    time.sleep(2.5)
    assert bench.status_file("full")["updated"] == before, "the disk was not full after all"
    assert bench.is_running(found["pid"])
    assert bench.is_running(found["supervisor_pid"])
    end.touch()
    bench.eventually(lambda: not bench.is_running(found["pid"]))
    time.sleep(1.5)
    assert bench.is_running(found["supervisor_pid"]), "it has not said its last word yet"
    ballast.unlink()
    status = bench.finish("full")
    assert (status.state, status.exit_code) == (RunState.FAILED, 4)
    assert bench.kinds("full") == ["attempt_started", "attempt_ended"]
    bench.eventually(lambda: not bench.is_running(found["supervisor_pid"]))


def test_full_disk_refuses_a_launch_with_its_reason(bench: Bench, small_disk: Path):
    launcher = Launcher(LocalHost(), str(small_disk))
    bench.root, bench.launcher = small_disk, launcher
    bench.create("refused")
    ballast = fill(small_disk)
    with pytest.raises(Exception, match="No space left on device"):
        launcher.start("refused")
    ballast.unlink()
    launcher.start("refused")
    assert bench.finish("refused").state is RunState.COMPLETED


def test_folder_removed_under_a_run_ends_its_supervisor(bench: Bench):
    folder = bench.start("gone", argv=("sleep", "600"))
    found = bench.status_file("gone")
    subprocess.run(["rm", "-r", str(folder)], check=True)
    os.kill(found["pid"], signal.SIGKILL)
    bench.eventually(lambda: not bench.is_running(found["supervisor_pid"]))
    assert not folder.exists()

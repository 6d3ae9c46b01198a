"""``lab.hosts.view``: what hosts have and do, asked near and far by the same program, and where there is room."""

from __future__ import annotations

import getpass
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ssh_server import QUICK, Server

from verl_lab.lab.hosts import probe
from verl_lab.lab.hosts.view import Gpu, HostReport, HostView, Memory

if TYPE_CHECKING:
    from collections.abc import Callable

    from verl_lab import Lab

# In the form that nvidia-smi's manual gives for csv, noheader, nounits.
REAL = "0, NVIDIA H200, 0, 143771, 0, 28, 76.64\n"
BUSY = "1, NVIDIA H200, 131072, 143771, 98, 71, 688.10\n"
MINE = "0, NVIDIA A100-SXM4-40GB MIG 1g.5gb, 37, 40960, [N/A], 31, [Not Supported]\n"
GIB = 2**30


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give a home without keys."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Put a program on the path that writes what nvidia-smi wrote somewhere else."""

    def put(said: str, *, code: int = 0, before: str = "") -> None:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        program = folder / "nvidia-smi"
        (folder / "said").write_text(said)
        program.write_text(f"#!/bin/sh\n{before}\ncat '{folder / 'said'}'\nexit {code}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    return put


def add(lab: Lab, server: Server, name: str = "box", **fields: Any) -> None:
    lab.hosts.timings = QUICK
    shown = subprocess.run(["ssh-keygen", "-lf", server.host_key], capture_output=True, text=True, check=True)
    usual = {"runs_root": str(lab.settings.home), "accept": shown.stdout.split()[1]}
    lab.hosts.add(name, "127.0.0.1", server.port, getpass.getuser(), str(server.user_key), **{**usual, **fields})


def live_run(lab: Lab, name: str, pid: int, state: str = "running") -> None:
    """Write a run's status as the supervisor does, with this process at work on it."""
    folder = lab.settings.runs_root / name / "attempts" / "2"
    folder.mkdir(parents=True)
    older = folder.with_name("1")
    older.mkdir()
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    status = {"run": name, "state": state, "step": 3, "total": 9, "phase": "training", "pid": pid}
    status |= {"process_start": int(fields[19]), "boot_id": Path("/proc/sys/kernel/random/boot_id").read_text().strip()}
    (folder / "status.json").write_text(json.dumps(status))
    (older / "status.json").write_text(json.dumps({**status, "state": "failed"}))


def test_near_and_far_are_asked_by_the_same_program(lab: Lab, sshd: Server) -> None:
    add(lab, sshd)
    process = subprocess.Popen(["sleep", "600"])
    try:
        live_run(lab, "alive", process.pid)
        live_run(lab, "over", process.pid, "completed")
        view = lab.hosts.view()
        near, far = view.hosts
        assert (near.name, far.name) == ("local", "box")
        for host in view.hosts:
            assert host.problem is None
            assert host.root == str(lab.settings.home)
            assert host.missing == {}
            assert [(run.run, run.step, run.total) for run in host.runs or ()] == [("alive", 3, 9)]
            assert host.cores == len(os.sched_getaffinity(0))
            assert host.load is not None
            assert host.disk is not None
            assert 0 < host.disk.free_bytes <= host.disk.total_bytes
            assert host.memory is not None
            assert 0 < host.memory.available_bytes <= host.memory.total_bytes
        assert near.memory is not None
        assert far.memory is not None
        assert near.memory.total_bytes == far.memory.total_bytes
        assert repr(view).count("alive") == 2
        assert "<table>" in view._repr_html_()
    finally:
        process.kill()
        process.wait()
    assert lab.hosts.look("box").runs == ()


def test_what_nvidia_smi_says_is_taken_as_it_is(lab: Lab, smi: Callable[..., None]) -> None:
    smi(REAL + BUSY + MINE.replace("0,", "2,", 1))
    found = lab.hosts.look("local")
    assert found.gpus is not None
    free, busy, divided = found.gpus
    assert (free.name, free.memory_used_bytes, free.memory_total_bytes) == ("NVIDIA H200", 0, 143771 * 2**20)
    assert (busy.use_percent, busy.temperature_c, busy.power_w) == (98, 71, 688.10)
    assert (divided.use_percent, divided.power_w) == (None, None)
    assert dict(divided.missing) == {
        "use_percent": "nvidia-smi says [N/A]",
        "power_w": "nvidia-smi says [Not Supported]",
    }
    assert found.free_gpus == (0, 2)
    shown = repr(lab.hosts.view())
    assert "✓ GPU 0, 2" in shown
    assert "128 of 140 GiB" in shown
    assert "local, GPU 2: power not known: nvidia-smi says [Not Supported]" in shown


@pytest.mark.parametrize(
    ("said", "code", "reason"),
    [
        (
            "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n",
            9,
            "exit code 9: NVIDIA-SMI",
        ),
        ("", 1, "exit code 1: it said nothing"),
        ("Field weird\n", 0, "nvidia-smi answered 'Field weird'"),
    ],
)
def test_what_cannot_be_measured_has_a_reason_and_no_value(
    lab: Lab, smi: Callable[..., None], said: str, code: int, reason: str
) -> None:
    smi(said, code=code)
    found = lab.hosts.look("local")
    assert found.gpus is None
    assert reason in found.missing["gpus"]
    assert found.has_room is None
    assert found.memory is not None
    assert f"local: gpus not known: {found.missing['gpus']}" in repr(HostView((found,)))
    assert "?" in repr(HostView((found,)))


def test_an_nvidia_smi_that_hangs_is_not_waited_for(smi: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    smi(REAL, before="exec sleep 60")
    monkeypatch.setattr(probe, "SMI_S", 0.2)
    with pytest.raises(probe.UnmeasuredError, match=r"did not answer within 0\.2 s"):
        probe.gpus()


def test_a_host_that_is_not_reached_has_a_row_with_the_reason(lab: Lab, sshd: Server) -> None:
    add(lab, sshd)
    lab.hosts.add("off", "127.0.0.1", 1)
    view = lab.hosts.view()
    assert [host.name for host in view.hosts] == ["local", "box", "off"]
    off = view.hosts[2]
    assert off.problem is not None
    assert "unreachable" in off.problem
    assert off.has_room is None
    assert off.gpus is off.memory is off.disk is off.runs is off.load is None
    assert f"off: {off.problem}" in repr(view)
    assert "off" not in view.with_room


def test_where_there_is_room() -> None:
    free = Gpu(0, "H200", 0.0, 140.0 * GIB, 0.0, 30.0, 70.0)
    held = replace(free, index=1, memory_used_bytes=100.0 * GIB)
    used = replace(free, index=2, use_percent=50.0)
    mute = replace(free, index=3, memory_used_bytes=None)
    idle = HostReport("h", gpus=(), memory=Memory(16 * GIB, 12 * GIB), load=0.5, cores=4)
    for host, has_room in (
        (replace(idle, gpus=(held, free)), True),
        (replace(idle, gpus=(held, used)), False),
        (replace(idle, gpus=(held, mute)), False),
        (replace(idle, gpus=(mute,)), None),
        (replace(idle, gpus=None), None),
        (idle, True),
        (replace(idle, load=3.0), False),
        (replace(idle, memory=Memory(16 * GIB, GIB)), False),
        (replace(idle, memory=None), None),
        (HostReport("h", problem="off"), None),
    ):
        assert host.has_room is has_room
    assert HostView((idle, replace(idle, name="g", gpus=(held,)))).with_room == ["h"]


def test_names_from_a_host_stay_text(lab: Lab, smi: Callable[..., None]) -> None:
    smi(REAL.replace("NVIDIA H200", "<script>alert(1)</script>\x1b[31m"))
    view = lab.hosts.view()
    assert "<script>" not in view._repr_html_()
    assert "\x1b" not in repr(view)


def test_what_a_run_folder_holds_is_not_believed(lab: Lab) -> None:
    for name, content in (
        ("list", "[]"),
        ("torn", '{"state": "run'),
        ("none", ""),
        ("odd", '{"state": 5, "pid": "1"}'),
    ):
        folder = lab.settings.runs_root / name / "attempts" / "1"
        folder.mkdir(parents=True)
        (folder / "status.json").write_text(content)
    for name, field, value in (
        ("boot", "boot_id", "of yesterday"),
        ("reused", "process_start", 1),
        ("gone", "pid", 2**30),
    ):
        live_run(lab, name, os.getpid())
        path = lab.settings.runs_root / name / "attempts" / "2" / "status.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), field: value}))
    assert lab.hosts.look("local").runs == ()


def test_a_python_that_cannot_answer_is_named(lab: Lab, sshd: Server) -> None:
    add(lab, sshd, python=sys.executable)
    assert lab.hosts.look("box").problem is None

"""What is measured of the host beside a run, and that measuring never stands in its way nor stays behind."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from verl_lab.domain.run import RunState
from verl_lab.domain.wire import Header, MetricRecord, decode_header, decode_metrics
from verl_lab.launch import supervisor
from verl_lab.launch.gpus import visible
from verl_lab.launch.sampler import Sampler, interval_s

if TYPE_CHECKING:
    from .conftest import Bench

PROGRAMS = Path(__file__).parent / "programs"
OFTEN = "0.1"
WAIT = (sys.executable, "-c", "import time; time.sleep(600)")


def records(bench: Bench, run: str, number: int = 1) -> list[MetricRecord]:
    path = bench.attempt(run, number).system
    return [decode_metrics(line) for line in path.read_bytes().splitlines()[1:]] if path.exists() else []


def header(bench: Bench, run: str) -> Header:
    path = bench.attempt(run).system
    bench.eventually(lambda: path.exists() and path.stat().st_size)
    return decode_header(path.read_bytes().splitlines()[0])


def last(bench: Bench, run: str, holds: Any = bool) -> dict[str, float]:
    """Return the values of a sample for which something holds, as soon as there is one."""
    return bench.eventually(lambda: next((r.data for r in reversed(records(bench, run)) if holds(r.data)), None))


def not_measured(bench: Bench, run: str) -> dict[str, str]:
    found = bench.eventually(lambda: [event for event in bench.events(run) if event.kind == "not_measured"])
    return {name: why for event in found for name, why in event.data["reasons"].items()}


def sampling_failed(bench: Bench, run: str) -> list[dict[str, Any]]:
    return [event.data for event in bench.events(run) if event.kind == "sampling_failed"]


def test_the_host_and_what_the_run_takes_of_it_are_measured(bench: Bench, tmp_path: Path):
    pid, end = tmp_path / "pid", tmp_path / "end"
    bench.start("busy", argv=(sys.executable, str(PROGRAMS / "busy.py"), str(pid), str(end)), VERL_LAB_SAMPLE_S=OFTEN)
    found = last(
        bench, "busy", lambda data: data.get("system/run/memory_gb", 0) > 0.3 and data.get("system/run/cpu_percent")
    )
    assert 0.3 < found["system/run/memory_gb"] < found["system/memory_gb"]
    assert found["system/run/cpu_percent"] > 0
    assert found["system/run/processes"] == 2
    assert 0 < found["system/cpu_percent"] <= 100
    assert 0 < found["system/memory_percent"] < 100
    assert found["system/disk_free_gb"] > 0
    assert 0 < found["system/disk_percent"] <= 100
    end.touch()
    assert bench.finish("busy").exit_code == 0
    every = records(bench, "busy")
    assert all(name.startswith("system/") for record in every for name in record.data)
    assert all(math.isfinite(value) for record in every for value in record.data.values())
    assert not any(record.rejected for record in every)


def test_a_sample_says_when_it_was_taken_and_which_step_was_in_work(bench: Bench):
    bench.start("stepping", "steps=99999", "step_s=0.12", VERL_LAB_SAMPLE_S=OFTEN)
    bench.eventually(lambda: len({record.step for record in records(bench, "stepping")}) > 2)
    bench.launcher.stop("stepping")
    assert bench.finish("stepping").state is RunState.STOPPED
    found = records(bench, "stepping")
    assert [record.seq for record in found] == list(range(len(found)))
    steps = [record.step for record in found]
    assert steps == sorted(steps)
    assert len(set(steps)) > 2
    status = bench.status_file("stepping")
    assert max(steps) <= status["step"] + 1
    assert all(status["started"] < (record.time or 0) < status["ended"] for record in found)


@pytest.mark.parametrize(
    ("progress", "step"),
    [
        (None, 0),
        ("{", 0),
        ("[]", 0),
        ('{"phase": "loading model", "step": null, "total": null}', 0),
        ('{"phase": "training", "step": 0, "total": 9}', 1),
        ('{"phase": "validating", "step": 3, "total": null}', 4),
        ('{"phase": "training", "step": 8, "total": 9}', 9),
        ('{"phase": "training", "step": 9, "total": 9}', 9),
        ('{"phase": "finishing", "step": 5, "total": 9}', 5),
    ],
)
def test_the_step_in_work_is_the_one_after_the_last_that_is_done(tmp_path: Path, progress: str | None, step: int):
    attempt = tmp_path / "run" / "attempts" / "1"
    attempt.mkdir(parents=True)
    if progress is not None:
        (attempt / "progress.json").write_text(progress)
    Sampler(attempt, os.getpid()).sample()
    (line,) = (attempt / "system.jsonl").read_bytes().splitlines()[1:]
    assert decode_metrics(line).step == step


def test_a_folder_that_is_gone_ends_no_sampler(tmp_path: Path):
    attempt = tmp_path / "run" / "attempts" / "1"
    attempt.mkdir(parents=True)
    sampler = Sampler(attempt, os.getpid())
    attempt.rmdir()
    sampler.sample()
    attempt.mkdir()
    sampler.sample()
    assert len((attempt / "system.jsonl").read_bytes().splitlines()) == 2


@pytest.mark.parametrize("how", ["ends", "stops", "is stopped now", "fails"])
def test_the_sampler_ends_with_the_attempt(bench: Bench, how: str, tmp_path: Path):
    end = tmp_path / "end"
    until = f"import os, time\nwhile not os.path.exists({str(end)!r}): time.sleep(0.05)\n"
    if how == "stops":
        bench.start("over", "steps=99999", "step_s=0.05", VERL_LAB_SAMPLE_S=OFTEN)
    else:
        bench.start(
            "over",
            argv=(sys.executable, "-c", f"{until}raise SystemExit({int(how == 'fails')})"),
            VERL_LAB_SAMPLE_S=OFTEN,
        )
    sampler = header(bench, "over").pid
    assert bench.is_running(sampler)
    assert os.getpriority(os.PRIO_PROCESS, sampler) == 19
    if "stop" in how:
        bench.at_step("over") if how == "stops" else None
        bench.launcher.stop("over", now="now" in how)
    end.touch()
    bench.finish("over")
    assert not bench.is_running(sampler)
    assert supervisor.members(bench.attempt("over").folder, root=-1) == []
    assert sampling_failed(bench, "over") == []
    assert bench.events("over")[-1].kind == "attempt_ended"


def test_the_sampler_ends_with_a_killed_supervisor_and_the_next_one_goes_on(bench: Bench):
    bench.start("orphan", "steps=99999", "step_s=0.05", VERL_LAB_SAMPLE_S=OFTEN)
    first = header(bench, "orphan").pid
    bench.at_step("orphan")
    bench.kill(bench.status_file("orphan")["supervisor_pid"])
    bench.eventually(lambda: not bench.is_running(first))
    assert bench.is_running(bench.status_file("orphan")["pid"])
    before = len(records(bench, "orphan"))
    bench.launcher.start("orphan")  # it adopts what still trains
    bench.eventually(lambda: len(records(bench, "orphan")) > before + 2)
    bench.launcher.stop("orphan")
    bench.finish("orphan")
    found = records(bench, "orphan")
    assert [record.seq for record in found] == list(range(len(found)))
    said = [name for event in bench.events("orphan") if event.kind == "not_measured" for name in event.data["reasons"]]
    assert len(said) == len(set(said))
    assert supervisor.members(bench.attempt("orphan").folder, root=-1) == []


def test_a_sampler_that_dies_is_recorded_and_the_run_goes_on(bench: Bench):
    bench.start("bereft", "steps=99999", "step_s=0.05", VERL_LAB_SAMPLE_S=OFTEN)
    bench.kill(header(bench, "bereft").pid)
    bench.eventually(lambda: sampling_failed(bench, "bereft"))
    assert sampling_failed(bench, "bereft") == [{"reason": "It was ended by SIGKILL.", "exit_code": 137}]
    taken = len(records(bench, "bereft"))
    step = bench.at_step("bereft").step or 0
    bench.at_step("bereft", step + 20)
    bench.launcher.stop("bereft")
    assert bench.finish("bereft").state is RunState.STOPPED
    assert len(records(bench, "bereft")) == taken


def test_a_wrong_interval_is_named(bench: Bench):
    bench.start("odd", "steps=99999", "step_s=0.05", VERL_LAB_SAMPLE_S="often")
    bench.eventually(lambda: sampling_failed(bench, "odd"))
    (failed,) = sampling_failed(bench, "odd")
    assert failed["reason"].startswith("VERL_LAB_SAMPLE_S: 'often' is no number of seconds")
    bench.launcher.stop("odd")
    bench.finish("odd")


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "1e400", "5 s"])
def test_what_is_no_interval_is_refused(text: str):
    with pytest.raises(SystemExit, match="VERL_LAB_SAMPLE_S"):
        interval_s(text)


def test_no_interval_takes_the_usual_one():
    assert interval_s(None) == interval_s("") == interval_s("5")


def test_a_zero_takes_no_samples(bench: Bench):
    bench.start("unmeasured", "steps=99999", "step_s=0.05", VERL_LAB_SAMPLE_S="0")
    bench.at_step("unmeasured", 25)
    bench.launcher.stop("unmeasured")
    bench.finish("unmeasured")
    assert not bench.attempt("unmeasured").system.exists()
    assert {"not_measured", "sampling_failed"}.isdisjoint(bench.kinds("unmeasured"))


def test_a_python_without_verl_lab_is_named_and_trains_on(bench: Bench, tmp_path: Path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    bench.start("bare", argv=(str(tmp_path / "bare/bin/python"), *WAIT[1:]), VERL_LAB_SAMPLE_S=OFTEN)
    bench.eventually(lambda: sampling_failed(bench, "bare"))
    assert "No module named 'verl_lab'" in sampling_failed(bench, "bare")[0]["reason"]
    assert bench.launcher.status("bare").state is RunState.STARTING
    bench.launcher.stop("bare")
    bench.finish("bare")


def test_a_command_without_a_python_is_named_and_trains_on(bench: Bench):
    bench.start("shell", argv=("sleep", "600"), VERL_LAB_SAMPLE_S=OFTEN)
    bench.eventually(lambda: sampling_failed(bench, "shell"))
    assert sampling_failed(bench, "shell")[0]["reason"].startswith("'sleep' is no Python")
    bench.launcher.stop("shell")
    bench.finish("shell")


def test_a_program_of_a_virtual_environment_is_measured_by_its_python(tmp_path: Path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "env")], check=True)
    torchrun = tmp_path / "env/bin/torchrun"
    torchrun.touch(mode=0o755)
    beside = str(tmp_path / "env/bin/python")
    assert supervisor._python_of(str(torchrun), {}, "/") == beside
    assert supervisor._python_of("torchrun", {"PATH": str(torchrun.parent)}, "/") == beside
    assert supervisor._python_of("bin/torchrun", {}, str(tmp_path / "env")) == beside
    assert supervisor._python_of("bin/python3", {}, str(tmp_path / "env")) == str(tmp_path / "env/bin/python3")


def test_without_psutil_what_it_would_measure_is_left_out_and_the_reason_said_once(bench: Bench, tmp_path: Path):
    (tmp_path / "psutil.py").write_text("raise ModuleNotFoundError(name='psutil')")
    bench.start("partly", argv=WAIT, PYTHONPATH=str(tmp_path), VERL_LAB_SAMPLE_S=OFTEN)
    bench.eventually(lambda: len(records(bench, "partly")) > 2)
    names = {name for record in records(bench, "partly") for name in record.data}
    assert names == {"system/disk_free_gb", "system/disk_percent"}
    reasons = not_measured(bench, "partly")
    assert "psutil is not installed" in reasons["system/cpu_percent"] == reasons["system/run"]
    assert bench.kinds("partly").count("not_measured") == 1
    bench.launcher.stop("partly")
    bench.finish("partly")


def test_a_host_without_a_gpu_says_so_and_measures_none(bench: Bench):
    bench.start("plain", argv=WAIT, CUDA_VISIBLE_DEVICES="", VERL_LAB_SAMPLE_S=OFTEN)
    last(bench, "plain")
    assert set(not_measured(bench, "plain")) == {"system/gpu"}
    assert not any("gpu" in name for record in records(bench, "plain") for name in record.data)
    bench.launcher.stop("plain")
    bench.finish("plain")


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a library that answers as NVIDIA's driver does."""
    folder = tmp_path_factory.mktemp("driver")
    library = folder / "libnvidia-ml.so.1"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(PROGRAMS / "driver.c")], check=True)
    return folder


def test_gpus_are_measured_each_and_together(bench: Bench, driver: Path, tmp_path: Path):
    pid, end = tmp_path / "pid", tmp_path / "end"
    argv = (sys.executable, str(PROGRAMS / "busy.py"), str(pid), str(end))
    bench.start("gpus", argv=argv, LD_LIBRARY_PATH=str(driver), PIDS=str(pid), VERL_LAB_SAMPLE_S=OFTEN)
    found = last(bench, "gpus", lambda data: "system/run/gpu_memory_gb" in data)
    gpus = {name.removeprefix("system/"): value for name, value in found.items() if "gpu" in name}
    assert gpus == {
        "gpu0/use_percent": 90,
        "gpu0/memory_gb": 40,
        "gpu0/memory_percent": 50,
        "gpu0/temperature_c": 60,
        "gpu0/power_w": 350,
        "gpu1/use_percent": 20,
        "gpu1/memory_gb": 60,
        "gpu1/memory_percent": 75,
        "gpu1/temperature_c": 61,
        "gpu/use_percent": 55,
        "gpu/memory_gb": 100,
        "gpu/memory_percent": 75,
        "gpu/temperature_c": 61,
        "run/gpu_memory_gb": 30,
    }
    assert not_measured(bench, "gpus") == {"system/gpu1/power_w": "Not Supported"}
    end.touch()
    bench.finish("gpus")


def test_only_the_gpus_that_the_run_may_use_are_measured(bench: Bench, driver: Path):
    bench.start("one-gpu", argv=WAIT, LD_LIBRARY_PATH=str(driver), CUDA_VISIBLE_DEVICES="1", VERL_LAB_SAMPLE_S=OFTEN)
    found = last(bench, "one-gpu")
    assert {name for name in found if "gpu0" in name} == set()
    assert found["system/gpu/use_percent"] == found["system/gpu1/use_percent"] == 20
    assert "system/run/gpu_memory_gb" not in found
    bench.launcher.stop("one-gpu")
    bench.finish("one-gpu")


@pytest.mark.parametrize(
    ("wanted", "is_ordered", "found"),
    [
        (None, True, [0, 1, 2]),
        ("", True, []),
        ("-1", True, []),
        ("2,0", True, [2, 0]),
        ("0,0", True, [0]),
        ("1,7,0", True, [1]),
        (" 1 ", True, [1]),
        ("1", False, [0, 1, 2]),
        ("GPU-b", False, [1]),
        ("GPU-c,GPU-a", True, [2, 0]),
        ("MIG-1", True, [0, 1, 2]),
        ("NoDevFiles", True, []),
    ],
)
def test_gpus_that_a_program_sees(wanted: str | None, is_ordered: bool, found: list[int]):  # noqa: FBT001
    assert visible(wanted, ["GPU-a", "GPU-b", "GPU-c"], is_ordered=is_ordered) == found


def test_a_line_that_was_cut_short_costs_no_later_sample(tmp_path: Path):
    path = tmp_path / "system.jsonl"
    assert supervisor.append(path, b"1\n", header=b"head\n")
    with path.open("ab") as file:
        file.write(b"cut")
    assert supervisor.append(path, b"2\n", header=b"head\n")
    assert path.read_bytes() == b"head\n1\ncut\n2\n"
    assert supervisor.append(tmp_path / "gone" / "x", b"3\n") is None

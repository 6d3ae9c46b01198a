"""``Lab`` and ``Run`` over logs and run folders; verl itself runs in tests/training."""

from __future__ import annotations

import gc
import json
import math
import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

from verl_lab import Lab
from verl_lab.domain.run import RunState
from verl_lab.errors import FormatError, InvalidInputError, NotFoundError


def test_attached_log_holds_every_scalar_after_its_first_sync(lab: Lab, recordings: Path) -> None:
    log = recordings / "grpo-30-steps.jsonl"
    run = lab.attach(log)
    wanted: dict[str, dict[int, float]] = {}
    for line in log.read_text().splitlines():
        record = json.loads(line)
        for name, value in record["data"].items():
            wanted.setdefault(name, {})[record["step"]] = math.nan if value is None else float(value)
    assert run.metric_names() == sorted(wanted)
    for name, points in wanted.items():
        steps, values = run.metrics(name)
        assert steps.dtype == np.int64
        assert values.dtype == np.float64
        assert dict(zip(steps.tolist(), values.tolist(), strict=True)) == pytest.approx(points, rel=0, nan_ok=True)


def test_attaching_the_same_log_twice_is_the_same_run(lab: Lab, recordings: Path) -> None:
    log = recordings / "sft-60-steps.jsonl"
    assert lab.attach(log).id == lab.attach(os.path.relpath(log)).id
    assert len(lab.runs()) == 1


def test_attached_log_is_followed_while_it_grows(lab: Lab, recordings: Path, tmp_path: Path) -> None:
    lines = (recordings / "sft-60-steps.jsonl").read_bytes().splitlines(keepends=True)
    log = tmp_path / "growing.log"
    log.write_bytes(b"".join(lines[:10]))
    run = lab.attach(log)
    heard = threading.Event()
    subscription = lab.feed.subscribe(lambda update: heard.set() if update.records else None, run.id)
    with log.open("ab") as file:
        file.write(b"".join(lines[10:]))
    assert heard.wait(30)
    subscription.close()
    assert run.metrics("train/loss")[0].tolist() == list(range(1, 61))


def test_attached_log_has_no_state_and_refuses_what_only_a_run_can(lab: Lab, recordings: Path) -> None:
    run = lab.attach(recordings / "sft-60-steps.jsonl")
    assert run.state is RunState.ATTACHED
    for refused in (run.stop, run.resume, run.wait, run.samples, run.model_path):
        with pytest.raises(InvalidInputError, match="something else writes"):
            refused()


def test_console_log_and_file_log_give_the_same_numbers(lab: Lab, recordings: Path) -> None:
    file = lab.attach(recordings / "grpo-30-steps.jsonl")
    console = lab.attach(recordings / "grpo-30-steps.console.log")
    for name in ("critic/score/mean", "actor/entropy", "actor/grad_norm"):
        steps, values = file.metrics(name)
        same_steps, same_values = console.metrics(name)
        assert steps.tolist() == same_steps.tolist()
        assert values == pytest.approx(same_values, rel=1e-6)


def test_nothing_there_and_no_log_are_said_in_a_line(lab: Lab, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="there is nothing at"):
        lab.attach(tmp_path / "no.jsonl")
    prose = tmp_path / "prose.txt"
    prose.write_text("nothing of verl's\n")
    with pytest.raises(FormatError, match="prose"):
        lab.attach(prose)
    with pytest.raises(FormatError):
        lab.attach(tmp_path)


def test_runs_are_found_by_id_prefix_and_name(lab: Lab, recordings: Path) -> None:
    run = lab.attach(recordings / "sft-60-steps.jsonl")
    lab.attach(recordings / "grpo-30-steps.jsonl")
    assert lab.run(run.id).id == run.id
    assert lab.run(run.name).id == run.id
    assert lab.run(run.id[:-2]).id == run.id
    with pytest.raises(InvalidInputError, match="2 run ids"):
        lab.run("attached-")
    with pytest.raises(NotFoundError, match=run.name):
        lab.run("sft-60-step.jsonl")


def test_unknown_host_recipe_and_metric_name_the_nearest(lab: Lab, recordings: Path) -> None:
    with pytest.raises(NotFoundError, match="local"):
        lab.train("sft-cpu", host="locale")
    with pytest.raises(NotFoundError, match="sft-cpu"):
        lab.train("sft-cpuu")
    with pytest.raises(NotFoundError, match="train/loss"):
        lab.attach(recordings / "sft-60-steps.jsonl").metrics("train/los")


def test_index_can_be_thrown_away(tmp_path: Path, recordings: Path) -> None:
    home = tmp_path / "home"
    folder = home / "runs" / "20260101-000000-kept-0000"
    with Lab(home):
        pass
    attempt = folder / "attempts" / "1"
    attempt.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"version": 1, "run": folder.name, "name": "kept", "created": 1.0}))
    shutil.copy(recordings.parent / "wire-v1" / "metrics.jsonl", attempt / "metrics.jsonl")
    with Lab(home) as lab:
        names = lab.run("kept").metric_names()
        assert names
    for file in home.glob("verl-lab.db*"):
        file.unlink()
    with Lab(home) as lab:
        assert lab.run("kept").metric_names() == names


def test_closing_leaves_no_thread_and_no_descriptor(tmp_path: Path, recordings: Path) -> None:
    def held() -> tuple[int, int]:
        return threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))

    with Lab(tmp_path / "warm") as lab:
        lab.attach(recordings / "sft-60-steps.jsonl")
    gc.collect()  # what earlier tests left lying about is none of this one's
    before = held()
    for _ in range(5):
        with Lab(tmp_path / "home") as lab:
            lab.attach(recordings / "sft-60-steps.jsonl")
    assert held() == before


def test_logs_of_an_attached_file_are_its_lines(lab: Lab, recordings: Path) -> None:
    log = recordings / "grpo-30-steps.console.log"
    lines = log.read_text().splitlines()
    assert lab.attach(log).logs(tail=3).splitlines() == lines[-3:]
    assert lab.attach(log).logs(tail=None) == log.read_text()

"""Real verl on a host over SSH: launched, cut off from it, stopped, resumed, and read to its end."""

from __future__ import annotations

import getpass
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from ssh_server import QUICK

from verl_lab import Lab, Run
from verl_lab.domain.run import RunState
from verl_lab.errors import InvalidInputError

from .conftest import DEADLINE_S, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cuttable_proxy import Proxy
    from ssh_server import Server

    from .conftest import Task

pytestmark = pytest.mark.timeout(900)


@dataclass(frozen=True)
class FarHistory:
    """An SFT run on a host that was cut off in the midst of it, stopped, and resumed to its end."""

    lab: Lab
    proxy: Proxy
    run: Run
    root: Path
    sent: list[str]
    state_while_away: RunState
    host_while_away: str
    stopped: RunState


@pytest.fixture(scope="module")
def far_run(task: Task, sshd: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FarHistory]:
    from cuttable_proxy import Proxy

    proxy = Proxy(sshd.port)
    root = tmp_path_factory.mktemp("far home") / "verl lab"
    with Lab(tmp_path_factory.mktemp("near")) as lab:
        yield _history(lab, task, sshd, proxy, root)
    proxy.close()


def _history(lab: Lab, task: Task, sshd: Server, proxy: Proxy, root: Path) -> FarHistory:
    lab.hosts.timings = QUICK
    shown = subprocess.run(["ssh-keygen", "-lf", f"{sshd.host_key}.pub"], capture_output=True, text=True, check=True)
    lab.hosts.add(
        "box",
        "127.0.0.1",
        proxy.port,
        getpass.getuser(),
        str(sshd.user_key),
        runs_root=str(root),
        python=sys.executable,
        accept=shown.stdout.split()[1],
    )
    sent: list[str] = []
    settings = ["trainer.total_training_steps=30", "trainer.save_freq=10", "trainer.test_freq=10"]
    run = lab.train(
        task.recipe("sort-digits-sft"),
        settings,
        "far",
        host="box",
        progress=lambda what, _done, _size: sent.append(what),
    )
    until(lambda: (run.status().step or 0) >= 2, "the second step", run)
    proxy.refuses = True
    proxy.cut()
    until(lambda: lab.hosts.state("box").word == "unreachable", "word that the host is away")
    away, host = run.state, str(lab.hosts.state("box"))
    proxy.refuses = False
    until(lambda: (run.status().step or 0) >= 6, "steps after the cut", run)
    run.stop()
    stopped = run.wait(DEADLINE_S)
    run.resume()
    assert run.wait(DEADLINE_S) is RunState.COMPLETED, f"{run.status()}\n{run.logs()}"
    return FarHistory(lab, proxy, run, root, sent, away, host, stopped)


def test_run_trains_on_the_host_whoever_is_cut_off(far_run: FarHistory) -> None:
    assert far_run.state_while_away is RunState.RUNNING
    assert far_run.host_while_away.startswith("unreachable: ")
    assert far_run.stopped is RunState.STOPPED
    assert far_run.run.status().attempt == 2
    assert far_run.run.folder.startswith(str(far_run.root / "runs"))
    assert far_run.run.row.host == "box"


def test_curve_is_that_of_the_files_and_no_step_is_lost_or_doubled(far_run: FarHistory) -> None:
    steps, loss = far_run.run.metrics("train/loss")
    assert steps.tolist() == list(range(1, 31))
    logged: dict[int, float] = {}
    for attempt in (1, 2):
        lines = far_run.run.layout.attempt(attempt).metrics.read_text().splitlines()[1:]
        for line in map(json.loads, lines):
            if "train/loss" in line["data"]:
                logged[line["step"]] = line["data"]["train/loss"]
    assert loss.tolist() == [logged[step] for step in steps.tolist()]
    assert np.isfinite(loss).all()


def test_what_it_reads_was_sent_and_is_read_there(far_run: FarHistory, task: Task) -> None:
    assert far_run.sent
    for key in ("train_files", "val_files"):
        assert str(far_run.run.config["data"][key]).startswith(str(far_run.root / "datasets"))
    # This host is this machine: it has the same model at the same place, and that is not sent.
    assert far_run.run.config["model"]["path"] == str(task.data / "model")


def test_log_events_and_configuration_are_read_from_there(far_run: FarHistory) -> None:
    assert len(far_run.run.logs(tail=5).splitlines()) == 5
    kinds = [event.kind for event in far_run.run.events()]
    assert kinds.count("attempt_started") == 2
    assert kinds.index("plugin_loaded") < kinds.index("train_begin") < kinds.index("train_end")
    assert far_run.run.config["trainer"]["total_training_steps"] == 30
    with pytest.raises(InvalidInputError, match="completed"):
        far_run.run.resume()


def test_the_same_data_are_sent_once(far_run: FarHistory, task: Task) -> None:
    sent: list[str] = []
    planned = far_run.lab.train(task.recipe("sort-digits-sft"), host="box", dry_run=True)
    assert planned.folder.startswith(str(far_run.root / "runs"))
    run = far_run.lab.train(
        task.recipe("sort-digits-sft"),
        ["trainer.total_training_steps=2"],
        "again",
        host="box",
        progress=lambda what, _done, size: sent.append(what) if size else None,
    )
    assert run.wait(DEADLINE_S) is RunState.COMPLETED, f"{run.status()}\n{run.logs()}"
    assert [what for what in sent if what.startswith("Send")] == []


def test_a_model_it_saved_is_brought_here(far_run: FarHistory, tmp_path: Path) -> None:
    here = far_run.run.fetch_model(to=tmp_path / "model")
    there = Path(far_run.run.model_path())
    assert {path.name for path in here.iterdir()} == {path.name for path in there.iterdir()}
    for path in here.iterdir():
        assert path.read_bytes() == (there / path.name).read_bytes()


def test_a_new_lab_knows_the_run_while_its_host_is_away(far_run: FarHistory) -> None:
    far_run.proxy.refuses = True
    try:
        with Lab(far_run.lab.settings.home) as lab:
            lab.hosts.timings = QUICK
            run = lab.run("far")
            assert run.status().state is RunState.COMPLETED
            assert [one.id for one in lab.runs()][-1] == run.id
            assert run.metrics("train/loss")[0].tolist() == list(range(1, 31))
            assert lab.lineage(run).text()
            assert run.id in lab.reindex().kept
            lab.hosts.remove("box")
            assert lab.run("far").status().state is RunState.COMPLETED
            assert run.metrics("train/loss")[0].tolist() == list(range(1, 31))
    finally:
        far_run.proxy.refuses = False

"""Real verl on a host over SSH: launched, cut off from it, stopped, resumed, forked there and here, and read."""

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
from verl_lab.domain.recipe import Checks
from verl_lab.domain.run import RunState
from verl_lab.errors import InvalidInputError

from .conftest import DEADLINE_S, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cuttable_proxy import Proxy
    from ssh_server import Server

    from .conftest import Task

pytestmark = pytest.mark.timeout(900)

REWARD = """
from judging.order import rising

def compute_score(data_source, solution_str, ground_truth, extra_info=None, **kwargs):
    return {"score": rising(solution_str), "acc": float(solution_str.strip() == str(ground_truth))}
"""
JUDGING = """
def rising(text):
    digits = [one for one in text if one.isdecimal()]
    return sum(a <= b for a, b in zip(digits, digits[1:])) / max(1, len(digits) - 1)
"""


@dataclass(frozen=True)
class FarHistory:
    """Runs on a host: SFT, which was cut off in its midst, its forks from step 20 there and here, and GRPO.

    ``rewarded`` is GRPO, stopped and resumed to its end.
    """

    lab: Lab
    proxy: Proxy
    taught: Run
    rewarded: Run
    forked_there: Run
    forked_here: Run
    root: Path
    sent: list[str]
    sent_again: list[str]
    state_while_away: RunState
    host_while_away: str
    stopped: RunState
    stopped_at: int


@pytest.fixture(scope="module")
def far_runs(task: Task, sshd: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FarHistory]:
    from cuttable_proxy import Proxy

    proxy = Proxy(sshd.port)
    root = tmp_path_factory.mktemp("far home") / "verl lab"
    (task.project / "judging").mkdir()
    (task.project / "judging" / "__init__.py").touch()
    (task.project / "judging" / "order.py").write_text(JUDGING)
    (task.project / "rising_reward.py").write_text(REWARD)
    with Lab(tmp_path_factory.mktemp("near")) as lab:
        try:
            history = _history(lab, task, sshd, proxy, root)
        except BaseException:
            proxy.refuses = False
            for run in lab.runs():
                if run.state.is_live:
                    run.stop(now=True)
            raise
        yield history
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
    taught = lab.train(
        task.recipe("sort-digits-sft"), settings, "taught", host="box", progress=lambda what, *_: sent.append(what)
    )
    until(lambda: (taught.status().step or 0) >= 2, "the second step", taught)
    proxy.refuses = True
    proxy.cut()
    until(lambda: lab.hosts.state("box").word == "unreachable", "word that the host is away")
    away, host = taught.state, str(lab.hosts.state("box"))
    proxy.refuses = False
    until(lambda: (taught.status().step or 0) >= 6, "steps after the cut", taught)
    _finish(taught)
    sent_again: list[str] = []

    def fork(place: str) -> Run:
        settings = ["trainer.total_training_steps=22"]
        told = lambda what, _done, size: sent_again.append(what) if size else None  # noqa: E731  nothing else calls it
        run = lab.train(None, settings, f"forked-{place}", place, parent=taught, from_step=20, progress=told)
        return _finish(run)

    # While GRPO loads its model: it gives up if Ray has to start beside much else.
    rewarded = _rewarded(lab, task, sent)
    until(lambda: rewarded.status().phase == "loading model", "that Ray is there", rewarded)
    forked_there = fork("box")
    until(lambda: (rewarded.status().step or 0) >= 1, "the first step", rewarded)
    rewarded.stop()
    stopped, stopped_at = rewarded.wait(DEADLINE_S), rewarded.status().step or 0
    rewarded.resume()
    until(lambda: rewarded.status().phase == "loading model", "that Ray is there again", rewarded)
    forked_here = fork("local")
    _finish(rewarded)
    return FarHistory(
        lab,
        proxy,
        taught,
        rewarded,
        forked_there,
        forked_here,
        root,
        sent,
        sent_again,
        away,
        host,
        stopped,
        stopped_at,
    )


def _finish(run: Run) -> Run:
    assert run.wait(DEADLINE_S) is RunState.COMPLETED, f"{run.status()}\n{run.logs()}"
    return run


def _rewarded(lab: Lab, task: Task, sent: list[str]) -> Run:
    """Launch GRPO with a reward function and a callback that have modules of the user's own beside them."""
    recipe = task.recipe("sort-digits-grpo")
    recipe = recipe.model_copy(
        update={
            "reward": recipe.reward.model_copy(update={"path": str(task.project / "rising_reward.py")}),
            "callbacks": ("diary.Diary",),
            # From an untrained model nearly every answer is cut, which is critical.
            "checks": Checks(on_critical="ignore"),
        }
    )
    settings = ["trainer.total_training_steps=6", "trainer.test_freq=6", "trainer.save_freq=100"]
    settings += ["trainer.val_before_train=False", "data.val_max_samples=32"]
    return lab.train(recipe, settings, "rewarded", host="box", progress=lambda what, *_: sent.append(what))


def test_runs_train_on_the_host_whoever_is_cut_off(far_runs: FarHistory) -> None:
    assert far_runs.state_while_away is RunState.RUNNING
    assert far_runs.host_while_away.startswith("unreachable: ")
    assert far_runs.stopped is RunState.STOPPED
    assert 1 <= far_runs.stopped_at < 6
    assert (far_runs.taught.status().attempt, far_runs.rewarded.status().attempt) == (1, 2)
    for run in (far_runs.taught, far_runs.rewarded, far_runs.forked_there):
        assert run.folder.startswith(str(far_runs.root / "runs"))
        assert run.row.host == "box"


def test_curves_are_those_of_the_files_and_no_step_is_lost_or_doubled(far_runs: FarHistory) -> None:
    for run, metric, last in ((far_runs.taught, "train/loss", 30), (far_runs.rewarded, "critic/score/mean", 6)):
        steps, values = run.metrics(metric)
        assert steps.tolist() == list(range(1, last + 1))
        logged: dict[int, float] = {}
        for attempt in range(1, run.status().attempt + 1):
            lines = run.layout.attempt(attempt).metrics.read_text().splitlines()[1:]
            for line in map(json.loads, lines):
                if metric in line["data"]:
                    logged[line["step"]] = line["data"][metric]
        assert values.tolist() == [logged[step] for step in steps.tolist()]
        assert np.isfinite(values).all()


def test_what_they_read_was_sent_and_is_read_there(far_runs: FarHistory, task: Task) -> None:
    assert far_runs.sent
    for run in (far_runs.taught, far_runs.rewarded):
        for key in ("train_files", "val_files"):
            assert str(run.config["data"][key]).startswith(str(far_runs.root / "datasets"))
    # This host is this machine: it has the same model at the same place, and that is not sent.
    assert far_runs.taught.config["model"]["path"] == str(task.data / "model")


def test_modules_beside_the_reward_function_and_the_callback_work_there(far_runs: FarHistory, task: Task) -> None:
    run = far_runs.rewarded
    record = json.loads(run.layout.record.read_text())
    assert [one["module"] for one in record["code"]] == ["diary", "judging", "judging.order"]
    assert record["launch"]["cwd"] == str(run.layout.code)
    for one in record["code"]:
        inside = Path(one["path"]).relative_to(task.project)
        assert (run.layout.code / inside).read_bytes() == Path(one["path"]).read_bytes()
    assert not [event for event in run.events() if event.kind in ("reward_exception", "callback_failed")]
    assert run.metrics("critic/score/max")[1].max() > 0
    diary = (run.layout.attempt(2).folder / "diary.jsonl").read_text().splitlines()
    steps = [entry["step"] for entry in map(json.loads, diary) if entry["hook"] == "on_step_end"]
    assert steps == list(range(far_runs.stopped_at + 1, 7))


def test_samples_findings_log_and_events_are_read_from_there(far_runs: FarHistory) -> None:
    run = far_runs.rewarded
    assert len(run.logs(tail=5).splitlines()) == 5
    kinds = [event.kind for event in run.events()]
    assert kinds.count("attempt_started") == 2
    assert kinds.index("plugin_loaded") < kinds.index("train_begin") < kinds.index("train_end")
    begun = [event.data.get("resumed_from") for event in run.events() if event.kind == "train_begin"]
    assert begun == [0, far_runs.stopped_at]
    assert {sample["step"] for sample in run.samples()} == {6}
    assert len(run.samples(step=1, kind="rollout")) == 16 * 8
    assert "critical" in {finding.severity for finding in run.findings()}
    assert (run.health().score or 0) < 100
    assert run.config["trainer"]["total_training_steps"] == 6
    with pytest.raises(InvalidInputError, match="completed"):
        run.resume()


def test_host_is_measured_while_it_trains(far_runs: FarHistory) -> None:
    for run in (far_runs.taught, far_runs.rewarded):
        samples = run.system()
        assert len(samples) > 0
        assert (samples["system/run/memory_gb"].dropna() > 0).any()
        assert "sampling_failed" not in {event.kind for event in run.events()}


def test_fork_of_a_checkpoint_there_goes_on_there_and_here(far_runs: FarHistory) -> None:
    expected = far_runs.taught.metrics("train/loss", 21, 21)[1]
    for run, host in ((far_runs.forked_there, "box"), (far_runs.forked_here, "local")):
        assert run.host_name == host
        assert run.metrics("train/loss")[0].tolist() == [21, 22]
        assert run.metrics("train/loss", 21, 21)[1] == pytest.approx(expected, rel=1e-3)
        above = {node.id for node in far_runs.lab.lineage(run).ancestors()}
        assert f"checkpoint:{far_runs.taught.id}@20" in above
    assert [what for what in far_runs.sent_again if what.startswith("Send")] == [], "the same data are sent once"


def test_checkpoint_of_grpo_can_be_forked_there_and_fetched_here(far_runs: FarHistory, tmp_path: Path) -> None:
    step = far_runs.stopped_at
    for host in ("box", "local"):
        planned = far_runs.lab.train(None, parent=far_runs.rewarded, from_step=step, host=host, dry_run=True)
        assert planned.status().total == 6
    here = far_runs.rewarded.fetch_checkpoint(step, tmp_path / "checkpoint")
    there = far_runs.rewarded.layout.checkpoints / f"global_step_{step}"
    files = [path.relative_to(there) for path in there.rglob("*") if path.is_file()]
    assert any(path.name.startswith("model_world_size") for path in files)
    for path in files:
        assert (here / path).read_bytes() == (there / path).read_bytes()


def test_a_model_it_saved_is_brought_here(far_runs: FarHistory, tmp_path: Path) -> None:
    here = far_runs.taught.fetch_model(to=tmp_path / "model")
    there = Path(far_runs.taught.model_path())
    assert {path.name for path in here.iterdir()} == {path.name for path in there.iterdir()}
    for path in here.iterdir():
        assert path.read_bytes() == (there / path.name).read_bytes()


def test_a_new_lab_knows_the_run_while_its_host_is_away(far_runs: FarHistory) -> None:
    far_runs.proxy.refuses = True
    try:
        with Lab(far_runs.lab.settings.home) as lab:
            lab.hosts.timings = QUICK
            run = lab.run("taught")
            assert run.status().state is RunState.COMPLETED
            assert run.id in [one.id for one in lab.runs()]
            assert run.metrics("train/loss")[0].tolist() == list(range(1, 31))
            assert lab.lineage(run).text()
            assert run.id in lab.reindex().kept
            lab.hosts.remove("box")
            assert lab.run("taught").status().state is RunState.COMPLETED
            assert run.metrics("train/loss")[0].tolist() == list(range(1, 31))
    finally:
        far_runs.proxy.refuses = False

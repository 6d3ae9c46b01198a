"""SFT with real verl: launched by a magic from a kernel that is killed half-way."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
import yaml

from verl_lab import Lab
from verl_lab.domain.run import RunState
from verl_lab.errors import InvalidInputError, NotFoundError

if TYPE_CHECKING:
    from .conftest import SftHistory

pytestmark = pytest.mark.timeout(900)
STEPS = list(range(1, 21))


def test_run_outlives_its_kernel_and_completes(sft: SftHistory) -> None:
    status = sft.run.status()
    assert (status.state, status.step, status.total, status.exit_code) == (RunState.COMPLETED, 20, 20, 0)
    assert len(list((sft.run.layout.attempts).iterdir())) == 1


def test_next_kernel_sees_the_run_complete(sft: SftHistory) -> None:
    assert f"completed {STEPS}" in sft.seen_by_next_kernel


def test_every_scalar_verl_logged_is_read_back(sft: SftHistory) -> None:
    run = sft.run
    lines = [json.loads(x) for x in run.layout.attempt(1).metrics.read_text().splitlines()[1:]]
    logged = {(r["step"], name): value for r in lines for name, value in r["data"].items()}
    names = [name for name in run.metric_names() if not name.startswith("system/")]
    assert {"train/loss", "train/grad_norm", "train/lr", "train/global_tokens", "val/loss"} <= set(names)
    read = {(int(s), n): v for n in names for s, v in zip(*run.metrics(n), strict=True)}
    assert read == pytest.approx(logged, rel=0, abs=0, nan_ok=True)


def test_no_step_is_lost_or_doubled(sft: SftHistory) -> None:
    steps, loss = sft.run.metrics("train/loss")
    assert steps.tolist() == STEPS
    assert np.isfinite(loss).all()
    assert loss[-3:].mean() < loss[:3].mean()


def test_step_range_is_inclusive(sft: SftHistory) -> None:
    steps, _ = sft.run.metrics("train/loss", start_step=5, end_step=8)
    assert steps.tolist() == [5, 6, 7, 8]


def test_events_tell_the_life_of_the_run(sft: SftHistory) -> None:
    kinds = [e.kind for e in sft.run.events()]
    for kind in ("attempt_started", "plugin_loaded", "train_begin", "validation_end", "checkpoint_saved"):
        assert kind in kinds, kinds
    assert kinds.index("plugin_loaded") < kinds.index("train_begin") < kinds.index("train_end")
    saved = [e for e in sft.run.events() if e.kind == "checkpoint_saved"]
    assert [e.step for e in saved] == [10, 20]


def test_checkpoint_is_a_model_path_for_the_next_stage(sft: SftHistory) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(sft.run.model_path())
    assert sum(p.numel() for p in model.parameters()) > 100_000
    with pytest.raises(NotFoundError, match="10, 20"):
        sft.run.model_path(step=15)


def test_configuration_and_command_are_kept(sft: SftHistory) -> None:
    assert sft.run.config["trainer"]["total_training_steps"] == 20
    assert yaml.safe_load(sft.run.layout.config.read_text()) == sft.run.config
    assert "verl_lab.verl_plugin.train_sft" in sft.run.command


def test_the_recipe_is_kept_exactly_as_it_was_launched(sft: SftHistory) -> None:
    record = json.loads(sft.run.layout.record.read_text())
    name = record["recipe"]["name"]
    with Lab(sft.run.layout.folder.parents[1]) as lab:
        launched = lab.recipes.get(name, record["recipe_version"])
        text = lab.recipes.source(name, record["recipe_source"]).text
    assert launched.parameters == record["recipe"]["parameters"]
    assert launched.data.model_dump() == record["recipe"]["data"]
    assert yaml.safe_load(text)["algorithm"] == "sft"


def test_log_is_kept_and_cut_to_its_tail(sft: SftHistory) -> None:
    assert len(sft.run.logs(tail=5).splitlines()) == 5
    with pytest.raises(InvalidInputError, match="tail"):
        sft.run.logs(tail=0)


def test_completed_run_refuses_stop_and_resume(sft: SftHistory) -> None:
    with pytest.raises(InvalidInputError, match="completed"):
        sft.run.stop()
    with pytest.raises(InvalidInputError, match="completed"):
        sft.run.resume()


def test_unknown_metric_names_the_nearest(sft: SftHistory) -> None:
    with pytest.raises(NotFoundError, match="train/loss"):
        sft.run.metrics("train/los")

"""``preset="diagnosable"``: more rules have data, and the plan and the record say what was added."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from verl_lab.errors import NotFoundError

if TYPE_CHECKING:
    from pathlib import Path

    from verl_lab import Lab

KL = "actor_rollout_ref.actor.use_kl_loss"


@pytest.fixture
def inputs(tmp_path: Path) -> list[str]:
    """Return overrides that give a recipe for rewards all it reads."""
    model = tmp_path / "model"
    model.mkdir()
    shape = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 50}
    (model / "config.json").write_text(json.dumps(shape))
    (model / "vocab.json").write_text("{}")
    (model / "chat_template.jinja").write_text("x")
    row = {"prompt": [{"role": "user", "content": "hi"}], "data_source": "x", "reward_model": {"ground_truth": "1"}}
    pq.write_table(pa.Table.from_pylist([row] * 64), tmp_path / "rl.parquet")
    return [f"model={model}", f"data.train={tmp_path}/rl.parquet", f"data.val={tmp_path}/rl.parquet"]


def test_diagnosable_gives_the_rule_of_kl_its_data(lab: Lab, inputs: list[str]) -> None:
    plain: Any = lab.train("grpo-cpu", inputs, dry_run=True)
    watched: Any = lab.train("grpo-cpu", inputs, dry_run=True, preset="diagnosable")
    without, with_it = repr(plain.report()), repr(watched.report())
    assert f"{KL}=true" in without
    assert "kl-explosion: the run logs no" in without
    assert "kl-explosion: the run logs no" not in with_it


def test_users_overrides_win_over_the_preset(lab: Lab, inputs: list[str]) -> None:
    plan = lab.train("grpo-cpu", [*inputs, f"{KL}=false"], dry_run=True, preset="diagnosable")
    assert plan.config["actor_rollout_ref"]["actor"]["use_kl_loss"] is False


def test_unknown_preset_is_refused_with_the_known(lab: Lab, inputs: list[str]) -> None:
    with pytest.raises(NotFoundError, match="diagnosable"):
        lab.train("grpo-cpu", inputs, dry_run=True, preset="diagnosible")

"""Recommendations from a history whose best answer is known."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from verl_lab.domain.recipe import DataFiles, Recipe
from verl_lab.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from verl_lab import Lab

    from .conftest import Written

LR = "actor_rollout_ref.actor.optim.lr"
METRIC = "val-core/math/acc/mean@1"


@pytest.fixture
def past(write_launch: Callable[..., Written]) -> Callable[..., Written]:
    """Return what makes a run with a held-out score over its steps."""

    def write(
        name: str,
        lr: float,
        scores: Sequence[float],
        *,
        data: str = "mathmath",
        parameters: int = 500_000_000,
        model: str = "/models/small",
        state: str = "completed",
        metric: str = METRIC,
        **parameters_of_recipe: Any,
    ) -> Written:
        settings = {LR: lr, "trainer.total_epochs": 3, "data.seed": 4, "data.max_prompt_length": 512}
        recipe = Recipe(
            name="mine", algorithm="grpo", model=model, parameters=settings | parameters_of_recipe, data=DataFiles()
        )
        sets = [{"role": role, "hash": data + role, "name": data, "rows": 1} for role in ("train", "val")]
        lineage = {"model": {"path": model, "parameters": parameters}, "parents": []}
        made = write_launch(name, recipe, datasets=sets, lineage=lineage, overrides=[f"{LR}={lr}"]).begin(total=30)
        for k, score in enumerate(scores):
            made.step(10 * (k + 1), {metric: score, "critic/score/mean": 1.0})
        return made.status(state, step=30, total=30, exit_code=0, ended=made.begun + 300)

    return write


def test_best_of_the_like_is_named_with_its_score_and_what_it_changes(lab: Lab, past: Callable[..., Written]) -> None:
    past("low", 1e-7, [0.1, 0.2, 0.3])
    best = past("right", 3e-6, [0.2, 0.71, 0.6], **{"actor_rollout_ref.rollout.n": 16})
    past("high", 1e-4, [0.25, 0.1, float("nan")])
    past("crashed", 5e-6, [0.99], state="failed")
    past("other-data", 9e-6, [0.95], data="cooking", model="/models/other", parameters=7_000_000_000)
    found = lab.recommend("grpo", model="/models/small", data="mathmathtrain")
    assert found.best is not None
    assert (found.best.run, found.best.score, found.best.step) == (best.layout.folder.name, 0.71, 20)
    assert [one.name for one in found.evidence] == ["right", "low", "high"]
    assert found.overrides == (
        f"{LR}=3e-06",
        "actor_rollout_ref.rollout.n=16",
        "data.max_prompt_length=512",
    )
    assert "the best of 3 completed grpo runs on the same data, with the same model" in found.reason
    assert "0.71 at step 20, the others 0.25 to 0.3" in found.reason
    assert bool(found)
    recipe = Recipe(name="x", algorithm="grpo", model="/models/small", parameters={LR: 3e-6})
    assert lab.recommend(recipe, data="mathmathtrain").overrides[0] == "actor_rollout_ref.rollout.n=16"


def test_nearer_evidence_goes_before_better_scores(lab: Lab, past: Callable[..., Written]) -> None:
    past("same", 1e-6, [0.4])
    past("larger", 2e-6, [0.8], model="/models/7b", parameters=7_000_000_000)
    past("like-size", 3e-6, [0.6], model="/models/like", parameters=800_000_000)
    past("elsewhere", 4e-6, [0.9], data="cooking")

    def names(model: str | None, data: str | None) -> list[str]:
        return [one.name for one in lab.recommend("grpo", model, data).evidence]

    assert names("/models/small", "mathmathtrain") == ["same"]
    assert names("somebody/New-600M", "mathmathtrain") == ["like-size", "same"]
    assert names("somebody/Huge-70B", "mathmathtrain") == ["larger", "like-size", "same"]
    assert names("/models/small", "cookingtrain") == ["elsewhere"]
    assert names("somebody/New-600M", "newdata") == ["like-size", "same"]


def test_losses_count_downwards(lab: Lab, past: Callable[..., Written]) -> None:
    past("worse", 1e-6, [2.0, 1.5], metric="val/loss")
    past("better", 2e-6, [1.9, 1.2, 1.3], metric="val/loss")
    found = lab.recommend("grpo", "/models/small", "mathmathtrain")
    assert found.best is not None
    assert (found.best.name, found.best.score) == ("better", 1.2)
    past("another-metric", 3e-6, [0.9])
    assert lab.recommend("grpo", "/models/small", "mathmathtrain").evidence == found.evidence
    assert "1 more were scored on other" in lab.recommend("grpo", "/models/small", "mathmathtrain").reason


def test_without_evidence_nothing_is_recommended_and_the_reason_is_given(
    lab: Lab, past: Callable[..., Written]
) -> None:
    assert "no grpo run has completed here yet" in lab.recommend("grpo").reason
    past("running", 1e-6, [0.5], state="running")
    past("no-score", 1e-6, [0.5], metric="actor/entropy")
    past("unlike", 1e-6, [0.5], data="cooking", model="/models/other", parameters=70_000_000_000)
    found = lab.recommend("grpo", "/models/small", "mathmathtrain")
    assert (found.best, found.evidence, found.overrides) == (None, (), ())
    assert not found
    assert "1 completed grpo run is on other data" in found.reason
    assert "never scored on held-out data" in found.reason
    assert repr(found).startswith("No recommendation: ")
    assert lab.recommend("sft").best is None
    with pytest.raises(NotFoundError, match="grpo"):
        lab.recommend("grop")


def test_data_are_known_by_their_bytes(lab: Lab, past: Callable[..., Written], tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "a"}\n')
    version = lab.datasets.add(rows, name="my-rows")
    made = past("one", 1e-6, [0.5], model="/models/other", parameters=9_000_000_000)
    record = json.loads(made.layout.record.read_text())
    record["datasets"][0] |= {"hash": version.hash, "paths": []}
    made.layout.record.write_text(json.dumps(record))
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes(rows.read_bytes())
    for data in (str(copy), version.hash, "my-rows"):
        assert lab.recommend("grpo", "/models/small", data).best is not None
    copy.write_text('{"prompt": "b"}\n')
    assert lab.recommend("grpo", "/models/small", str(copy)).best is None


def test_single_run_says_that_it_is_little_evidence(lab: Lab, past: Callable[..., Written]) -> None:
    past("only", 1e-6, [0.5])
    assert "One run is little evidence" in lab.recommend("grpo").reason
    assert "on any data" in lab.recommend("grpo").reason
    assert "--set" in repr(lab.recommend("grpo"))


def test_names_are_text_in_html(lab: Lab, past: Callable[..., Written]) -> None:
    past("one", 1e-6, [0.5])
    past("two", 1e-6, [0.6], **{"actor_rollout_ref.actor.note": "<img src=x onerror=alert(1)>"})
    assert "<img" not in lab.recommend("grpo")._repr_html_()

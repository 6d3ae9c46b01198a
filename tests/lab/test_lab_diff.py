"""``lab.diff`` and ``lab.diff_table`` over runs, recipes and configuration files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from verl_lab.domain.recipe import Recipe
from verl_lab.errors import FormatError, InvalidInputError, NotFoundError
from verl_lab.recipes.overrides import parse_override

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from verl_lab import Lab

    from .conftest import Written

BASE = {"lr": 1e-6, "rollout": {"n": 4}, "actor": {"rollout_n": 4}, "data": {"seed": 1, "train_files": "/x/a.parquet"}}


def _two(write: Callable[..., Written], **second: Any) -> None:
    recipe = Recipe(name="one", algorithm="grpo")
    write("a", recipe, config=BASE, argv=["python", "rollout.n=4", "lr=1e-6", "data.train_files=/x/a.parquet"])
    config = {
        **BASE,
        "rollout": {"n": 8},
        "actor": {"rollout_n": 8},
        "data": {"seed": 2, "train_files": "/y/b.parquet"},
    }
    write("b", recipe, config=config, argv=["python", "+rollout.n=8", "data.train_files=/y/b.parquet"], **second)


def test_two_runs_differ_in_exactly_what_was_changed(lab: Lab, write_launch: Callable[..., Written]) -> None:
    _two(write_launch)
    found = lab.diff("run:a", "run:b")
    assert found.telling == ["data.train_files", "rollout.n"]
    assert found.noise == {"data.seed"}
    assert found.follows == {"actor.rollout_n"}
    assert found.changed["rollout.n"] == (4, 8)
    assert "lr" in found.same
    assert lab.diff(lab.run("a"), lab.run("a")).keys == []


def test_paths_of_the_same_bytes_are_no_difference(lab: Lab, write_launch: Callable[..., Written]) -> None:
    same = {"role": "train", "hash": "abc", "name": "rows", "files": ["/y/b.parquet"], "rows": 3}
    _two(write_launch, datasets=[same])
    record = json.loads(lab.run("a").layout.record.read_text())
    lab.run("a").layout.record.write_text(json.dumps(record | {"datasets": [same | {"files": ["/x/a.parquet"]}]}))
    assert lab.diff("run:a", "run:b").telling == ["rollout.n"]


def test_what_nobody_set_has_moved_between_versions_of_verl(lab: Lab, write_launch: Callable[..., Written]) -> None:
    _two(write_launch, verl="0.10.0")
    found = lab.diff("run:a", "run:b")
    assert found.moved == {"actor.rollout_n"}
    assert "A was trained with verl 0.9.1, B with verl 0.10.0." in found.text()


def test_recipes_differ_in_their_own_words_and_a_run_counts_as_its_recipe(
    lab: Lab, write_launch: Callable[..., Written]
) -> None:
    found = lab.diff("grpo", "grpo-cpu")
    assert found.changed["resources.device"] == ("gpu", "cpu")
    assert {"name", "extends", "description"} <= found.noise
    assert "parameters" not in " ".join(found.keys)
    recipe = lab.recipes.get("grpo")
    write_launch("was-grpo", recipe, overrides=["model=/m", "actor_rollout_ref.rollout.n=5"])
    changed = lab.diff(recipe, lab.run("was-grpo"))
    assert changed.as_overrides() == ["actor_rollout_ref.rollout.n=5"]


def test_name_that_a_run_and_a_recipe_share_is_the_recipe(lab: Lab, write_launch: Callable[..., Written]) -> None:
    written = write_launch("grpo", lab.recipes.get("grpo"), config={"x": 1})
    assert lab.diff("grpo", "grpo-cpu").names[0].startswith("recipe grpo")
    assert lab.diff("run:grpo", written.run.id).names[0].startswith("run ")
    with pytest.raises(NotFoundError, match="grpo-cpu"):
        lab.diff("grpo", "grpo-cp")


def test_files_are_compared_with_their_types(lab: Lab, tmp_path: Path) -> None:
    one, two = tmp_path / "one.yaml", tmp_path / "two.json"
    one.write_text("a: {b: 1, c: 1e-6}\nlist: [1, '1']\n")
    two.write_text('{"a": {"b": 1.0, "c": 1e-06}, "list": [1, "1"], "new": null}')
    found = lab.diff(one, two)
    assert (found.changed, found.added) == ({"a.b": (1, 1.0)}, {"new": None})
    values = {item.key: item.value for item in map(parse_override, found.as_overrides())}
    assert values == {"a.b": 1.0, "new": None}
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("extends: grpo\nresources: {device: cpu}\n")
    assert lab.diff("grpo", recipe).changed["resources.device"] == ("gpu", "cpu")


def test_data_sets_differ_in_rows_and_columns(lab: Lab, tmp_path: Path) -> None:
    one, two = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    one.write_text('{"prompt": "a"}\n{"prompt": "b"}\n')
    two.write_text('{"prompt": "b"}\n{"prompt": "c", "extra": 1}\n{"prompt": "d"}\n')
    lab.datasets.add(one, name="rows")
    found = lab.diff("dataset:rows", two)
    assert found.changed["rows"] == (2, 3)
    assert "columns.extra" in found.added
    assert "Row by row: 2 added, 1 removed, 1 the same." in found.text()
    assert found.as_overrides() == []
    same = lab.diff(lab.datasets.get("rows"), one)
    assert (same.keys, same.notes) == ([], ("Row by row: 0 added, 0 removed, 2 the same.",))
    with pytest.raises(InvalidInputError, match="with a data set"):
        lab.diff("dataset:rows", "grpo")


def test_what_cannot_be_compared_is_refused(lab: Lab, tmp_path: Path, recordings: Path) -> None:
    broken, listed = tmp_path / "broken.json", tmp_path / "list.json"
    broken.write_text("{")
    listed.write_text("[1]")
    tagged = tmp_path / "tagged.yaml"
    tagged.write_text("a: !!python/object:os.system {}\n")
    for bad, error in (
        (broken, FormatError),
        (listed, FormatError),
        (tagged, FormatError),
        (tmp_path, InvalidInputError),
    ):
        with pytest.raises(error):
            lab.diff("grpo" if bad is tmp_path else bad, bad)
    with pytest.raises(NotFoundError, match="nothing at"):
        lab.diff(tmp_path / "none.yaml", "grpo")
    with pytest.raises(InvalidInputError, match="something else writes"):
        lab.diff(lab.attach(recordings / "grpo-30-steps.jsonl"), lab.attach(recordings / "sft-60-steps.jsonl"))
    with pytest.raises(InvalidInputError, match="two or more"):
        lab.diff_table(["grpo"])


def test_table_holds_only_what_is_not_the_same_in_all(lab: Lab, write_launch: Callable[..., Written]) -> None:
    recipe = Recipe(name="one", algorithm="grpo")
    for k, (rate, n) in enumerate(((1e-6, 4), (3e-6, 4), (3e-6, 8))):
        config = {"actor": {"optim": {"lr": rate}}, "critic": {"optim": {"lr": 1}}, "n": n, "seed": k, "same": 1}
        write_launch(f"r{k}", recipe, config=config, argv=["actor.optim.lr=1", f"n={n}"])
    table = lab.diff_table(["run:r0", "run:r1", "run:r2"])
    assert table.keys == ("actor.optim.lr", "n")
    assert [dict(row) for row in table.values] == [
        {"actor.optim.lr": 1e-6, "n": 4},
        {"actor.optim.lr": 3e-6, "n": 4},
        {"actor.optim.lr": 3e-6, "n": 8},
    ]
    shown = repr(table)
    assert shown.splitlines()[0].split() == ["lr", "n"]
    assert "lr = actor.optim.lr; 1 more" in shown

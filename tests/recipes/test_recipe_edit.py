"""Changing a recipe's YAML in place: only what changes is written, and it reads back as what was meant."""

from __future__ import annotations

import math
import string
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from verl_lab.domain.recipe import Recipe
from verl_lab.errors import InvalidInputError
from verl_lab.recipes.catalog import Catalog, builtin_folder
from verl_lab.recipes.edit import drop, put
from verl_lab.recipes.fields import as_text, as_written
from verl_lab.recipes.source import parse_mapping

if TYPE_CHECKING:
    import random

TEXT = """\
# What this is for.
description: short  # said in one line
algorithm: grpo
notes: |
  Two lines,
  of prose.

# Where it may run.
resources: {device: cpu, gpus: 1}  # for now
parameters:
  # Batches.
  data.train_batch_size: 16   # rows
  actor_rollout_ref:
    actor:
      optim: {lr: 1e-5}
      betas:
      - 0.9
      - 0.95
    # The rollout.
    rollout:
      n: 8
"""

AWKWARD = [
    "no", "007", "1e-5", ".5e3", "null", "~", "2024-01-01", "1:30", "- a", "a: b", "a #b", "#a", "{a}", "[a", "a, b",
    "", " lead", "trail ", "it's", '"q"', "${data.x}", "@attempt@", "&a", "*a", "!t", "%d", "|", ">", "?", "a\nb",
    "a\nb\n", "a\n\n", " a\nb", "a \nb", "\n", "\t", "a\tb", "\x07", "\x85", "\u2028", "\ufeff", "\ud7ff", "é", "🙂",
    "<<", "=", "---", "...", "a\r\nb", "yes", "1_000", "0x1f", "0o7", "+5", "-.inf", "x" * 300, "---\na", "\u00a0",
]  # fmt: skip


def kept(before: str, after: str) -> list[str]:
    """Return the lines of ``before`` that are not in ``after``."""
    left = after.splitlines()
    return [line for line in before.splitlines() if line not in left]


@pytest.mark.parametrize(
    ("path", "value", "gone", "come"),
    [
        (("description",), "long", "description: short  # said in one line", "description: long  # said in one line"),
        (
            ("parameters", "data", "train_batch_size"),
            32,
            "  data.train_batch_size: 16   # rows",
            "  data.train_batch_size: 32   # rows",
        ),
        (
            ("resources", "gpus"),
            2,
            "resources: {device: cpu, gpus: 1}  # for now",
            "resources: {device: cpu, gpus: 2}  # for now",
        ),
        (
            ("parameters", "actor_rollout_ref", "actor", "optim", "lr"),
            0.5,
            "      optim: {lr: 1e-5}",
            "      optim: {lr: 0.5}",
        ),
        (
            ("parameters", "actor_rollout_ref", "actor", "optim", "warmup", "steps"),
            "a, b",
            "      optim: {lr: 1e-5}",
            "      optim: {lr: 1e-5, warmup.steps: 'a, b'}",
        ),
    ],
)
def test_an_edit_changes_one_line_and_its_comment_stays(
    path: tuple[str, ...], value: Any, gone: str, come: str
) -> None:
    changed = put(TEXT, path, value)
    assert kept(TEXT, changed) == [gone]
    assert kept(changed, TEXT) == [come]


def test_fields_are_added_beside_their_nearest_neighbours() -> None:
    changed = put(TEXT, ("parameters", "actor_rollout_ref", "rollout", "temperature"), 0.7)
    changed = put(changed, ("parameters", "trainer", "save_freq"), 5)
    changed = put(changed, ("data", "train"), ["a.parquet", "b.parquet"])
    changed = put(changed, ("data", "val"), "c.parquet")
    changed = put(changed, ("expected", "critic/score/mean"), {"min": 0.5})
    assert changed == TEXT + (
        "      temperature: 0.7\n  trainer.save_freq: 5\ndata:\n  train: [a.parquet, b.parquet]\n  val: c.parquet\n"
        "expected:\n  critic/score/mean: {min: 0.5}\n"
    )


def test_blocks_of_lines_are_replaced_whole_and_removed_with_what_held_them() -> None:
    changed = put(TEXT, ("notes",), "one\n  two\n")
    assert "notes: |\n  one\n    two\n\n# Where" in changed
    changed = put(changed, ("parameters", "actor_rollout_ref", "actor", "betas"), [1])
    assert "      betas: [1]\n    # The rollout.\n" in changed
    changed = drop(changed, ("parameters", "actor_rollout_ref", "rollout", "n"))
    changed = drop(changed, ("resources", "gpus"))
    assert "rollout:" not in changed
    assert "resources: {device: cpu}  # for now\n" in changed
    assert "# Where it may run." in drop(changed, ("resources", "device"))
    assert "resources" not in drop(changed, ("resources", "device"))


@pytest.mark.parametrize("value", AWKWARD)
@pytest.mark.parametrize("path", [("notes",), ("parameters", "data", "train_batch_size"), ("resources", "device")])
def test_awkward_text_is_read_back_as_it_was(value: str, path: tuple[str, ...]) -> None:
    found = parse_mapping(put(TEXT, path, value), "x")
    there = found["parameters"]["data.train_batch_size"] if path[0] == "parameters" else found
    for name in path if path[0] != "parameters" else ():
        there = there[name]
    assert there == value
    assert parse_mapping(put("parameters: {}", ("parameters", "a", "b"), [value]), "x") == {
        "parameters": {"a.b": [value]}
    }


def test_a_comment_does_not_become_part_of_the_text_before_it() -> None:
    text = "parameters:\n  a: 1\n      # Deeper.\n"
    for path in (("parameters", "a"), ("parameters", "b"), ("notes",)):
        changed = put(text, path, "one\ntwo")
        found = parse_mapping(changed, "x")
        assert "      # Deeper." in changed.splitlines()
        assert (found if len(path) == 1 else found["parameters"])[path[-1]] == "one\ntwo"


def test_windows_line_ends_stay() -> None:
    windows = TEXT.replace("\n", "\r\n")
    changed = put(put(windows, ("parameters", "a"), 1), ("description",), "x")
    assert parse_mapping(changed, "x") == parse_mapping(windows, "x") | {
        "description": "x",
        "parameters": parse_mapping(TEXT, "x")["parameters"] | {"a": 1},
    }
    assert changed.count("\n") == changed.count("\r\n") == windows.count("\n") + 1


def test_a_value_of_no_kind_that_yaml_has_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="cannot hold"):
        put(TEXT, ("notes",), object())


class Maker:
    """Makes recipes at random."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice

    def value(self, depth: int = 0) -> Any:  # noqa: PLR0911  one return a kind of value
        kind = self.dice.randrange(8 if depth < 2 else 6)
        if kind == 0:
            return self.dice.choice([None, True, False])
        if kind == 1:
            return self.dice.choice([0, 1, -7, 10**12])
        if kind == 2:
            return self.dice.choice([0.0, 1e-5, -1.5, 1e300, math.inf, 0.1])
        if kind in (3, 4):
            return self.dice.choice(AWKWARD)
        if kind == 5:
            return "".join(self.dice.choices(string.printable, k=self.dice.randrange(12)))
        if kind == 6:
            return [self.value(depth + 1) for _ in range(self.dice.randrange(4))]
        return {self.name(): self.value(depth + 1) for _ in range(self.dice.randrange(3))} if depth else {}

    def name(self) -> str:
        return "".join(self.dice.choices(string.ascii_lowercase + "_", k=self.dice.randrange(1, 7)))

    def key(self) -> str:
        return ".".join(self.name() for _ in range(self.dice.randrange(1, 4)))

    def text(self) -> str:
        return self.dice.choice([*AWKWARD, "words of prose"])

    def some(self, make: Any, most: int = 3) -> list[Any]:
        return [make() for _ in range(self.dice.randrange(most + 1))]

    def path(self) -> str:
        return f"/data/{self.name()} {self.name()}.parquet"

    def expectation(self) -> dict[str, Any]:
        low = self.dice.uniform(-1, 1)
        return self.dice.choice([{"min": low}, {"max": low, "at_step": 3}, {"direction": "up", "min": low, "max": 2.0}])

    def recipe(self) -> Recipe:
        maybe = self.dice.random() < 0.5
        parameters: dict[str, Any] = {}
        for key in self.some(self.key, 6):
            inside = any(key.startswith(f"{other}.") or other.startswith(f"{key}.") for other in parameters)
            if not inside:
                parameters[key] = self.value()
        return Recipe.model_validate(
            {
                "name": "made",
                "algorithm": self.dice.choice(["sft", "grpo", "ppo"]),
                "version": self.dice.choice([1, 2, "1.0", "2024-01-01"]),
                "description": self.text(),
                "notes": self.text(),
                "model": self.dice.choice([None, "/models/m", "org/name"]),
                "data": {"train": self.path() if maybe else self.some(self.path), "val": None},
                "reward": {"path": "/r.py", "name": self.name()} if self.dice.random() < 0.5 else None,
                "callbacks": [f"a.{self.name()}" for _ in range(self.dice.randrange(3))],
                "resources": {"device": self.dice.choice(["cpu", "gpu"]), "gpus": self.dice.randrange(1, 9)},
                "checks": {
                    "on_critical": self.dice.choice(["stop", "mark"]),
                    "thresholds": {self.name(): {self.name(): 1.5} for _ in range(self.dice.randrange(3))},
                },
                "alerts": {"command": self.some(self.name), "webhook": "https://x.test/t" if maybe else None},
                "expected": {self.text(): self.expectation() for _ in range(self.dice.randrange(3))},
                "parameters": parameters,
            }
        )


def test_a_recipe_written_as_yaml_reads_back_the_same(dice: random.Random, rounds: Any) -> None:
    maker, catalog = Maker(dice), Catalog([builtin_folder()])
    for _ in range(rounds(1000)):
        recipe = maker.recipe()
        file = Path("/nowhere/made.yaml")
        assert catalog.load_text(as_text(recipe), file) == recipe
        assert as_text(catalog.load_text(as_text(recipe), file)) == as_text(recipe)
        assert catalog.load_text(as_written(recipe, "", file, catalog), file) == recipe


def test_any_recipe_can_be_edited_into_any_other_and_comments_stay(dice: random.Random, rounds: Any) -> None:
    maker, catalog = Maker(dice), Catalog([builtin_folder()])
    file = Path("/nowhere/made.yaml")
    text, comments = TEXT, [line for line in TEXT.splitlines() if line.startswith("#")]
    for _ in range(rounds(500)):
        recipe = maker.recipe()
        changed = as_written(recipe, text, file, catalog)
        assert catalog.load_text(changed, file) == recipe
        assert as_written(recipe, changed, file, catalog) == changed, "nothing to change changes nothing"
        assert [line for line in changed.splitlines() if line in comments] == comments
        text = changed if dice.random() < 0.8 else TEXT


def test_an_edited_recipe_that_extends_holds_only_what_differs(tmp_path: Path) -> None:
    catalog = Catalog([builtin_folder(), tmp_path])
    file = tmp_path / "mine.yaml"
    text = "# Mine.\nextends: grpo-cpu\nparameters:\n  trainer: {save_freq: 3}  # often\n"
    recipe = catalog.load_text(text, file)
    recipe = recipe.model_copy(update={"parameters": recipe.parameters | {"data.train_batch_size": 8}})
    assert as_written(recipe, text, file, catalog) == text + "  data.train_batch_size: 8\n"
    fewer = {key: value for key, value in recipe.parameters.items() if key != "data.max_prompt_length"}
    with pytest.raises(InvalidInputError, match=r"parameters\.data\.max_prompt_length: is part of 'grpo-cpu'"):
        as_written(recipe.model_copy(update={"parameters": fewer}), text, file, catalog)
    alone = recipe.model_copy(update={"parameters": fewer, "extends": None})
    whole = as_written(alone, text, file, catalog)
    assert catalog.load_text(whole, file) == alone
    assert whole.startswith("# Mine.\n")

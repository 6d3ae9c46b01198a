"""A hundred seeded mistakes in the shipped recipes: each is found before launch, and its key is named."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from verl_lab.recipes.layers import RESERVED
from verl_lab.recipes.limits import limit_of
from verl_lab.recipes.schema import Key, Schema, schema_of
from verl_lab.recipes.validate import validate

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from verl_lab.domain.recipe import Recipe
    from verl_lab.recipes.catalog import Catalog

ACTOR, ROLLOUT = "actor_rollout_ref.actor", "actor_rollout_ref.rollout"


@dataclass(frozen=True)
class Mistake:
    """Overrides of which the last is wrong, the key that must be named, and what must be said beside it."""

    overrides: tuple[str, ...]
    key: str
    told: str = ""


@dataclass(frozen=True)
class Scene:
    """What a mistake is made in."""

    recipe: Recipe
    schema: Schema
    dice: random.Random
    folder: Path

    def keys(self, fits: Callable[[Key], bool]) -> list[Key]:
        known = [self.schema.keys[name] for name in self.schema.complete("") if name not in RESERVED]
        return [key for key in known if fits(key)]


def misspelt(text: str, dice: random.Random) -> str:
    """Drop, double, swap or replace one letter."""
    at = dice.randrange(1, len(text) - 1)
    forms = [
        text[:at] + text[at + 1 :],
        text[:at] + text[at] + text[at:],
        text[: at - 1] + text[at] + text[at - 1] + text[at + 1 :],
        text[:at] + dice.choice("qxz") + text[at + 1 :],
    ]
    return dice.choice([form for form in forms if form != text])


def misspelt_key(scene: Scene) -> Mistake:
    while True:
        name = scene.dice.choice(scene.keys(lambda key: len(key.name.rsplit(".", 1)[-1]) > 4)).name
        parts = name.split(".")
        at = scene.dice.choice([n for n, part in enumerate(parts) if len(part) > 3])
        wrong = ".".join([*parts[:at], misspelt(parts[at], scene.dice), *parts[at + 1 :]])
        if wrong not in scene.schema.keys and wrong not in scene.schema.groups and not scene.schema.is_open(wrong):
            return Mistake((f"{wrong}=1",), wrong, f"The nearest: {name}")


def wrong_type(scene: Scene) -> Mistake:
    numbers = scene.keys(lambda key: key.kinds is not None and key.kinds <= {"int", "float", "bool", "null"})
    key = scene.dice.choice(numbers)
    return Mistake((f"{key.name}=banana",), key.name, "'banana' will not do; expected")


def out_of_range(scene: Scene) -> Mistake:
    def is_limited(key: Key) -> bool:
        return limit_of(key.name) is not None and key.kinds is not None and bool(key.kinds & {"int", "float"})

    key = scene.dice.choice(scene.keys(is_limited))
    limit = limit_of(key.name)
    assert limit is not None
    numbers = [-7, 9] if key.takes(-7) and not key.takes(0.5) else [-7.5, 1.5, 1000.0]
    outside = [number for number in numbers if not limit.admits(number)]
    if key.name in ("trainer.test_freq", "trainer.save_freq"):
        return out_of_range(scene)  # below 0 is how verl's PPO trainer says never
    return Mistake((f"{key.name}={scene.dice.choice(outside)}",), key.name, "it must be")


def misspelt_choice(scene: Scene) -> Mistake:
    def has_words(key: Key) -> bool:
        return any(len(choice) > 4 for choice in key.choices)

    key = scene.dice.choice(scene.keys(has_words))
    meant = scene.dice.choice([choice for choice in key.choices if len(choice) > 4])
    wrong = misspelt(meant, scene.dice)
    if wrong in key.choices:
        return misspelt_choice(scene)
    value = f"[{wrong}]" if isinstance(key.default, list) else wrong
    return Mistake((f"{key.name}={value}",), key.name, f"The nearest: {meant}.")


def bad_division(scene: Scene) -> Mistake:
    if scene.recipe.trainer == "ppo":
        key = f"{ACTOR}.ppo_micro_batch_size_per_gpu"
        sizes = "data={train_batch_size: 16}", f"{ACTOR}.ppo_mini_batch_size=16", f"{ROLLOUT}.n=4"
        micro = scene.dice.choice([3, 5, 6, 7, 9, 11])
        return Mistake((*sizes, f"{ACTOR}.use_dynamic_bsz=false", f"{key}={micro}"), key, "does not divide")
    micro = scene.dice.choice([3, 5, 6, 7, 9, 11])
    override = f"data={{use_dynamic_bsz: false, micro_batch_size_per_gpu: {micro}}}"
    return Mistake((override,), "data.micro_batch_size_per_gpu", "does not divide")


def missing_file(scene: Scene) -> Mistake:
    field, key = scene.dice.choice(
        [
            ("data.train", "data.train_files"),
            ("data.val", "data.val_files"),
            ("model", "actor_rollout_ref.model.path" if scene.recipe.trainer == "ppo" else "model.path"),
        ]
    )
    return Mistake((f"{field}={scene.folder}/{scene.dice.randrange(1000)}.parquet",), key, "does not exist")


def misspelt_file(scene: Scene) -> Mistake:
    stem = {"sft": "sft", "dpo": "dpo"}.get(scene.recipe.trainer, "rl")
    told = f"The nearest there: {stem}.parquet."
    return Mistake((f"data.train={scene.folder}/{stem}.parqet",), "data.train_files", told)


def wrong_column(scene: Scene) -> Mistake:
    name = {"sft": "messages", "dpo": "chosen"}.get(scene.recipe.trainer, "prompt")
    wrong = misspelt(name, scene.dice)
    others = {"sft": ["id"], "dpo": ["prompt", "rejected"]}.get(scene.recipe.trainer, ["id"])
    columns = {other: ["a"] * 2048 for other in [*others, wrong]}
    file = scene.folder / f"column-{scene.dice.randrange(10**9)}.parquet"
    pq.write_table(pa.table({**columns, "data_source": ["x"] * 2048, "reward_model": ["y"] * 2048}), file)
    return Mistake((f"data.train={file}",), "data.train_files", f"lacks the column {name}. The nearest: {wrong}.")


def wrong_rows(scene: Scene) -> Mistake:
    row: dict[str, Any] = {"prompt": "text", "chosen": "a", "rejected": "a", "messages": "text"}
    row |= {"data_source": "x", "reward_model": {"ground_truth": "1"}}
    file = scene.folder / f"rows-{scene.dice.randrange(10**9)}.parquet"
    pq.write_table(pa.Table.from_pylist([row] * 2048), file)
    return Mistake((f"data.train={file}",), "data.train_files", "row 1: ")


def unsafe_value(scene: Scene) -> Mistake:
    value, told = scene.dice.choice([("${oc.env:HOME}", "resolvers are refused"), ("???", "missing value")])
    return Mistake((f"trainer.project_name={value}",), "trainer.project_name", told)


def bad_resources(scene: Scene) -> Mistake:
    return scene.dice.choice(
        [Mistake(("resources.gpus=0",), "resources.gpus"), Mistake(("resources.device=tpu",), "resources.device")]
    )


def reserved_key(scene: Scene) -> Mistake:
    key = scene.dice.choice([key for key in RESERVED if key in scene.schema.keys])
    return Mistake((f"{key}=cuda",), key, "is set by verl-lab")


KINDS = (
    *(misspelt_key, misspelt_key, misspelt_key, wrong_type, wrong_type, out_of_range, out_of_range, misspelt_choice),
    *(misspelt_choice, bad_division, missing_file, misspelt_file, wrong_column, wrong_rows, unsafe_value),
    *(bad_resources, reserved_key),
)


@pytest.mark.parametrize("seed", range(100))
def test_a_seeded_mistake_is_found_and_its_key_is_named(seed: int, catalog: Catalog, inputs: Any) -> None:
    dice = random.Random(seed)
    recipe = catalog.get(dice.choice(catalog.names()))
    scene = Scene(recipe, schema_of(recipe.trainer), dice, inputs.folder)
    mistake = KINDS[seed % len(KINDS)](scene)
    device = "gpu" if recipe.resources.device == "gpu" and not mistake.key.startswith("resources") else "auto"
    problems = validate(recipe, [*inputs.of(recipe.algorithm), *mistake.overrides], device=device)
    said = [str(problem) for problem in problems if problem.key == mistake.key and problem.severity == "error"]
    assert said, (mistake, problems)
    assert any(mistake.told in text for text in said), (mistake, said)


def test_without_a_mistake_no_shipped_recipe_has_an_error(catalog: Catalog, inputs: Any) -> None:
    for name in catalog.names():
        recipe = catalog.get(name)
        device = "gpu" if recipe.resources.device == "gpu" else "auto"
        overrides = [*inputs.of(recipe.algorithm), *_enough_rows(recipe)]
        found = validate(recipe, overrides, device=device)
        assert [problem for problem in found if problem.severity == "error"] == [], name


def _enough_rows(recipe: Recipe) -> list[str]:
    if recipe.trainer != "ppo":
        return []
    mini = recipe.parameters.get(f"{ACTOR}.ppo_mini_batch_size", 64)
    return [f"data.train_batch_size={min(256, recipe.parameters.get('data.train_batch_size', 64))}"] * (mini <= 256)

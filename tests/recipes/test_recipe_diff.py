"""Differences of flat configurations: exact, typed, reversible, and folded only where they say nothing."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import pytest

from verl_lab.errors import InvalidInputError
from verl_lab.recipes.diff import Change, diff, equal, flat
from verl_lab.recipes.overrides import parse_override

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

NAMES = ("lr", "seed", "path", "a.b", "", "[x]", "default_local_dir", "ünïcode", "n")


def _value(dice: random.Random, depth: int = 0) -> Any:
    plain: list[Callable[[], Any]] = [
        lambda: None,
        lambda: dice.choice([True, False]),
        lambda: dice.choice([0, 1, 2, 10**20]),
        lambda: dice.choice([0.0, 1.0, 1e-6, math.nan, math.inf]),
        lambda: dice.choice(["", "1", "1.0", "null", "true", "@run@/x", "a b", 'quo"te', "\n"]),
        lambda: [_value(dice, depth + 2) for _ in range(dice.randrange(3))],
        dict,
    ]
    if depth < 3 and dice.random() < 0.4:
        return {dice.choice(NAMES): _value(dice, depth + 1) for _ in range(dice.randrange(4))}
    return dice.choice(plain)()


def _configuration(dice: random.Random) -> dict[str, Any]:
    return {dice.choice(NAMES) + str(k): _value(dice) for k in range(dice.randrange(8))}


def _mutated(dice: random.Random, one: dict[str, Any]) -> dict[str, Any]:
    return {key: _value(dice) if dice.random() < 0.3 else value for key, value in one.items() if dice.random() < 0.9}


def test_difference_applied_to_a_gives_b(dice: random.Random, rounds: Callable[[int], int]) -> None:
    for _ in range(rounds(5000)):
        first = _configuration(dice)
        a, b = flat(first), flat(_mutated(dice, first) | _configuration(dice))
        found = diff(a, b, given=(set(), {"lr1"}) if dice.random() < 0.5 else None, is_same_version=dice.random() < 0.5)
        assert equal(dict(sorted(found.apply(a).items())), dict(sorted(b.items())))
        assert set(found.telling) | found.noise | found.moved | found.follows == set(found.keys)
        assert len(found.telling) + len(found.noise) + len(found.moved) + len(found.follows) == len(found.keys)
        assert diff(a, a).keys == []


def test_type_is_part_of_a_value() -> None:
    values: list[Any] = [1, 1.0, "1", True, None, "null", [], {}, "", [1], [1.0], 0, False]
    for j, one in enumerate(values):
        for k, other in enumerate(values):
            assert equal(one, other) == (j == k), (one, other)
    assert equal([{"x": math.nan}], [{"x": math.nan}])
    assert not equal({"x": 1}, {"y": 1})


def test_flat_keeps_apart_what_is_not_the_same() -> None:
    assert flat({"a": {"b": 1, "c": {}}, "d": [1, {"e": 2}]}) == {"a.b": 1, "a.c": {}, "d": [1, {"e": 2}]}
    assert flat({"a.b": 1}) != flat({"a": {"b": 1}})
    assert flat({"[a.b]": 1}) != flat({"a.b": 1})
    assert flat({"": 1}) != flat({"[]": 1})


def test_added_removed_and_changed_are_told_apart() -> None:
    found = diff({"x": 1, "y": 2, "z": 3}, {"x": 1, "y": 2.0, "w": None}, names=("one", "two"))
    assert (found.added, found.removed, found.changed) == ({"w": None}, {"z": 3}, {"y": Change(2, 2.0)})
    assert found.same == {"x": 1}
    assert found.text().splitlines() == ["A  one", "B  two", "+ w = null", "~ y: 2 → 2.0", "- z = 3"]
    assert str(diff({}, {})).endswith("No difference.")


def test_names_seeds_and_places_fold_but_what_is_read_does_not() -> None:
    keys = ("trainer.experiment_name", "data.seed", "trainer.default_local_dir", "server.port", "name", "notes")
    inputs = ("actor_rollout_ref.model.path", "data.train_files", "model", "reward.name", "actor.optim.name")
    found = diff(dict.fromkeys((*keys, *inputs), "/a"), dict.fromkeys((*keys, *inputs), "/b"))
    assert found.noise == set(keys)
    assert found.telling == sorted(inputs)
    assert "6 more in names, seeds and places: data.seed" in found.text()
    assert "~ data.seed: /a → /b" in found.text(folded=True)
    assert diff({"model": "/a"}, {"model": "/b"}, alike=["model"]).noise == {"model"}


def test_defaults_of_two_versions_of_verl_that_differ_have_moved() -> None:
    before, after = {"clip": 0.2, "lr": 1e-6, "gone": 1}, {"clip": 0.3, "lr": 1e-6, "new": 2}
    a, b = {**before, "lr": 1e-5}, {**after, "lr": 2e-5}
    found = diff(a, b, defaults=(before, after), is_same_version=False)
    assert found.moved == {"clip", "gone", "new"}
    assert found.telling == ["lr"]
    # Set to the old default by hand, a value is a choice.
    assert diff({"clip": 0.25}, {"clip": 0.3}, defaults=(before, after), is_same_version=False).moved == set()
    assert diff(a, b, defaults=(before, after)).moved == set()


def test_what_nobody_set_follows_from_what_was_set() -> None:
    a = {"rollout.n": 4, "actor.rollout_n": 4, "extra.x.y": 1}
    b = {"rollout.n": 8, "actor.rollout_n": 8, "extra.x.y": 2}
    found = diff(a, b, given=({"rollout.n"}, {"extra.x"}))
    assert found.telling == ["extra.x.y", "rollout.n"]
    assert found.follows == {"actor.rollout_n"}
    assert diff(a, b, given=({"rollout.n"}, ()), is_same_version=False).moved == {"actor.rollout_n", "extra.x.y"}


def test_overrides_lead_from_a_to_b_and_read_back_as_they_were() -> None:
    a = {"lr": 1e-6, "name": "x", "gone": 5, "lost": 1, "trainer.device": "cpu"}
    b = {"lr": 3e-6, "name": "y", "text": 'a "b"', "list": [1, None, "c d"], "on": True, "trainer.device": "cuda"}
    found = diff(a, {**b, "bad": "${oc.env:HOME}", "place": "@run@/x"}, defaults=(a, {"gone": 7}))
    said = {item.key: item.value for item in map(parse_override, found.as_overrides())}
    assert said == {"lr": 3e-6, "text": 'a "b"', "list": [1, None, "c d"], "on": True, "gone": 7}
    assert found.not_overrides() == ["bad", "lost", "place", "trainer.device"]
    assert "name=y" in found.as_overrides(noise=True)


def test_all_of_it_goes_into_json() -> None:
    found = diff({"x": 1, "seed": 1}, {"x": "1", "seed": 2, "y": None}, names=("a", "b"), notes=["said"])
    read = json.loads(found.json())
    assert read["changed"]["x"] == {"before": 1, "after": "1"}
    assert (read["added"], read["noise"], read["overrides"], read["notes"]) == (
        {"y": None},
        ["seed"],
        ['x="1"', "y=null"],
        ["said"],
    )


def test_applied_to_something_else_it_is_refused() -> None:
    found = diff({"x": 1, "y": 1}, {"x": 2, "z": 1})
    for other, key in (({"x": 1.0, "y": 1}, "x"), ({"x": 1}, "y"), ({"x": 1, "y": 1, "z": 1}, "z")):
        with pytest.raises(InvalidInputError, match=f"^{key}:"):
            found.apply(other)

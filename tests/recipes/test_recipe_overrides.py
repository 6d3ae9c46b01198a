"""``key=value``: what users type, and that every value survives Hydra."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

import pytest

from verl_lab.errors import FormatError, InvalidInputError
from verl_lab.recipes.overrides import check_key, flatten, literal, overrides_of_text, parse_override, why_unsafe
from verl_lab.recipes.schema import compose

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

# fmt: off
HOSTILE = [
    "a b", "it's", 'say "x"', "a,b", "k=v", "{a}", "[1,2]", "(x)", "back\\slash",
    "end\\", 'mix\\"', '\\\\"', "é漢字🙂",
    "new\nline", "tab\t", "", " ", "null", "true", "NaN", "inf", "1e5", "007", "-",
    "--flag", "; rm -rf /", "$(id)", "`id`", "%2e",
    "@run@", "#x", "a: b", "~x", "+x", "*", "?", "!", "\x7f", "'", '"', '""', "'\"'",
    "choice(a,b)", "str(1)", "\\'", "\\\n", "a\\,b", "$x", "$HOME",
]
# fmt: on


def back(values: list[object]) -> list[object]:
    """Send values through Hydra as the launched command would."""
    overrides = [f"+model.override_config.v{n}={literal(value)}" for n, value in enumerate(values)]
    found = compose("sft", overrides).model.override_config
    return [found[f"v{n}"] for n in range(len(values))]


def test_hostile_strings_come_back_from_hydra_as_they_were() -> None:
    assert all(why_unsafe(text) is None for text in HOSTILE)
    assert back(list(HOSTILE)) == HOSTILE
    assert list(cast("list[str]", back([HOSTILE])[0])) == HOSTILE


def test_random_text_comes_back_from_hydra_as_it_was(dice: random.Random, rounds: Callable[[int], int]) -> None:
    alphabet = "ab1 \\\\\\\"\"'',=[]{}():;$@#%&|<>\n\t.é🙂-+~"
    texts = ["".join(dice.choices(alphabet, k=dice.randint(0, 12))) for _ in range(rounds(1000))]
    texts = [text for text in texts if why_unsafe(text) is None]
    assert back(list(texts)) == texts


def test_numbers_and_nothing_come_back_with_their_type() -> None:
    values: list[object] = [
        0,
        -7,
        10**20,
        1e-7,
        1.0,
        -2.5e300,
        math.inf,
        -math.inf,
        True,
        False,
        None,
        [],
        [1, [2.0, None]],
    ]
    found = back(values)
    assert found == values
    assert [type(item) for item in found[:11]] == [type(item) for item in values[:11]]
    assert math.isnan(cast("float", back([math.nan])[0]))


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("a.b=1e-4", "a.b", 1e-4),
        ("a=true", "a", True),
        ("a=null", "a", None),
        ("a=text", "a", "text"),
        ("a='1'", "a", "1"),
        ("a=[1,x]", "a", [1, "x"]),
        ("a={b:1}", "a", {"b": 1}),
        ("+a.b=1", "a.b", 1),
        ("++a.b=1", "a.b", 1),
        (" a = 3 ", "a", 3),
        ("a=", "a", ""),
        ("a=/data/x=1/é (2).parquet", "a", "/data/x=1/é (2).parquet"),
        ("a=b=c", "a", "b=c"),
    ],
)
def test_override_is_read(text: str, key: str, value: object) -> None:
    found = parse_override(text)
    assert (found.key, found.value) == (key, value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a", "expected key=value"),
        ("~a", "cannot be removed"),
        ("a=1,2", "several values"),
        ("a=range(1,3)", "several values"),
        ("a=[1", "Put text in quotes"),
        ("a=" + "[" * 500, "too deeply"),
        ("a/b=1", "is no key"),
        ("a@b=1", "is no key"),
        ("=1", "is no key"),
        ("a..b=1", "is no key"),
        ("a.0=1", "is no key"),
        ("model._target_=os.system", "would run code"),
    ],
)
def test_other_forms_are_refused(text: str, told: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        parse_override(text)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [
        "${oc.env:HOME}", "x${oc.env:HOME}y", "${oc.env:${data.x}}", "${oc.create:{a:1}}", "${now:%Y}",
        "${hydra:runtime.cwd}", "${",
        "???", "nul\0", "\ud800", ["ok", "${oc.env:HOME}"],
        [{"_target_": "os.system"}], [{"a b": 1}], {1: 2}, object(), b"x",
    ],
)  # fmt: skip
def test_values_that_could_run_code_or_not_arrive_are_refused(value: object) -> None:
    assert why_unsafe(value) is not None


def test_reference_to_another_key_is_accepted() -> None:
    assert why_unsafe("${data.max_prompt_length}") is None
    assert why_unsafe("${..name}") is None


def test_cell_text_is_overrides_or_yaml() -> None:
    assert overrides_of_text("# c\ntrainer.total_epochs=3\n\n+a.b=x y\n") == ["trainer.total_epochs=3", "+a.b=x y"]
    assert overrides_of_text("trainer:\n  total_epochs: 3\n  logger: [a, 'b c']\n") == [
        "trainer.total_epochs=3",
        'trainer.logger=[a,"b c"]',
    ]
    assert overrides_of_text("") == []
    with pytest.raises(FormatError):
        overrides_of_text("a: !!python/name:os.system")


def test_flatten_keeps_leaves_and_refuses_bad_keys() -> None:
    assert dict(flatten({"a": {"b": {"c": 1}, "d": {}}, "e.f": [1]})) == {"a.b.c": 1, "a.d": {}, "e.f": [1]}
    with pytest.raises(InvalidInputError):
        dict(flatten({"a": {"b;c": 1}}))
    with pytest.raises(InvalidInputError):
        check_key(".".join("a" * 30))

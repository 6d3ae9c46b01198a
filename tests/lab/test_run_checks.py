"""Checks and alerts on their way from a recipe to the process that trains."""

from __future__ import annotations

import json
import stat
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from verl_lab.domain.recipe import Alerts, Checks
from verl_lab.domain.wire import AttemptLayout, RunLayout
from verl_lab.errors import InvalidConfigurationError, InvalidInputError
from verl_lab.lab.launching import checks
from verl_lab.recipes.catalog import Catalog, builtin_folder
from verl_lab.transport.local import LocalHost
from verl_lab.verl_plugin.attempt import Attempt
from verl_lab.verl_plugin.checks import read_checks

if TYPE_CHECKING:
    from pathlib import Path

    from verl_lab import Lab
    from verl_lab.domain.recipe import Recipe


def recipe(folder: Path, **fields: Any) -> Recipe:
    (folder / "mine.yaml").write_text(yaml.safe_dump({"extends": "sft-cpu", **fields}))
    return Catalog((builtin_folder(), folder)).get("mine")


def test_thresholds_are_refused_together_with_the_other_problems(lab: Lab, tmp_path: Path) -> None:
    thresholds = {"kl-explosoin": {"threshold": 2}, "plateau": {"patience": "long"}, "divergence": {"error": 2}}
    made = recipe(tmp_path, model="/no/model", checks={"thresholds": thresholds})
    with pytest.raises(InvalidConfigurationError) as caught:
        lab.train(made, ["trainer.total_trainin_steps=3"])
    told = str(caught.value)
    for part in ("/no/model", "trainer.total_trainin_steps", "kl-explosion", "checks.thresholds.plateau.patience"):
        assert part in told
    assert "divergence" not in told
    assert f"{len(caught.value.problems)} problems" in told
    assert not list(lab.settings.runs_root.iterdir())


def test_thresholds_extend_parameter_by_parameter(tmp_path: Path) -> None:
    below = {"kl-explosion": {"threshold": 2, "patience": 5}, "plateau": {"enabled": False}}
    (tmp_path / "below.yaml").write_text(
        yaml.safe_dump({"extends": "sft-cpu", "checks": {"on_critical": "stop", "thresholds": below}})
    )
    made = recipe(tmp_path, extends="below", checks={"thresholds": {"kl-explosion": {"threshold": 3}}})
    assert made.checks == Checks(
        on_critical="stop",
        thresholds={"kl-explosion": {"threshold": 3, "patience": 5}, "plateau": {"enabled": False}},
    )


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"checks": {"on_critical": "explode"}}, "checks.on_critical"),
        ({"checks": {"on_critcal": "stop"}}, "on_critical"),
        ({"checks": {"thresholds": ["plateau"]}}, "checks.thresholds"),
        ({"alerts": {"command": "notify me"}}, "alerts.command"),
        ({"alerts": {"command": [""]}}, "alerts.command"),
        ({"alerts": {"webhook": "file:///etc/passwd?SECRET"}}, "alerts.webhook"),
        ({"alerts": {"webhook": "SECRET"}}, "alerts.webhook"),
    ],
)
def test_fields_that_make_no_sense_are_named_and_no_secret_is_told(
    tmp_path: Path, fields: dict[str, Any], told: str
) -> None:
    with pytest.raises(InvalidInputError) as caught:
        recipe(tmp_path, **fields)
    assert told in str(caught.value)
    assert "SECRET" not in str(caught.value)


def test_address_of_a_webhook_is_shown_nowhere(tmp_path: Path) -> None:
    made = recipe(tmp_path, alerts={"webhook": "https://example.org/SECRET"})
    assert "SECRET" not in repr(made)
    assert "SECRET" not in json.dumps(made.model_dump(mode="json"))


def handed_over(tmp_path: Path, made: Recipe, alerts: Alerts) -> Attempt:
    folder = tmp_path / "runs" / "20260101-000000-a-0000"
    checks.hand_over(LocalHost(), str(folder), made, alerts)
    return Attempt(AttemptLayout(folder / "attempts" / "1"), run=folder.name, number=1)


def test_training_process_reads_what_the_recipe_says(tmp_path: Path) -> None:
    thresholds = {"kl-explosion": {"threshold": 2.0}}
    made = recipe(tmp_path, checks={"on_critical": "stop", "thresholds": thresholds}, alerts={"command": ["a", "b c"]})
    read = read_checks(handed_over(tmp_path, made, Alerts()))
    assert (read.on_critical, read.thresholds, read.command, read.webhook) == ("stop", thresholds, ("a", "b c"), None)


def test_lab_tells_where_the_recipe_does_not_say(lab: Lab, tmp_path: Path) -> None:
    (lab.settings.home / "alerts.yaml").write_text("command: [lab]\nwebhook: https://example.org/SECRET\n")
    alerts = checks.alerts_of_lab(lab.settings.home)
    attempt = handed_over(tmp_path, recipe(tmp_path, alerts={"command": ["recipe"]}), alerts)
    read = read_checks(attempt)
    assert (read.command, read.webhook) == (("recipe",), "https://example.org/SECRET")
    file = RunLayout(attempt.layout.folder.parent.parent).checks
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_lab_without_the_file_tells_nobody_and_a_wrong_one_is_refused(lab: Lab) -> None:
    assert checks.alerts_of_lab(lab.settings.home) == Alerts()
    (lab.settings.home / "alerts.yaml").write_text("webhook: SECRET\nkommand: [x]\n")
    with pytest.raises(InvalidInputError, match=r"alerts\.yaml") as caught:
        checks.alerts_of_lab(lab.settings.home)
    assert "kommand" in str(caught.value)
    assert "SECRET" not in str(caught.value)


def test_on_critical_can_be_overridden_at_launch(tmp_path: Path) -> None:
    from verl_lab.recipes.validate import check

    made = recipe(tmp_path)
    assert check(made, ["checks.on_critical=stop"]).plan.recipe.checks.on_critical == "stop"
    problems = check(made, ["checks.on_critical=explode"]).problems
    assert "checks.on_critical" in {problem.key for problem in problems}

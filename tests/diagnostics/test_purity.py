"""What the room imports, and that what it suggests exists in verl."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import distribution

import yaml

from verl_lab.diagnostics import RULES
from verl_lab.diagnostics.rule import Scaled
from verl_lab.domain.finding import Severity


def test_import_is_light():
    heavy = ["IPython", "pandas", "pydantic", "ray", "scipy", "sqlalchemy", "torch", "verl", "verl_lab.lab", "yaml"]
    code = f"import sys, verl_lab.diagnostics; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_every_suggested_setting_is_a_key_of_verl():
    folder = distribution("verl").locate_file("verl/trainer/config")
    keys: set[str] = set()
    for name in ("_generated_ppo_trainer.yaml", "sft_trainer_engine.yaml"):
        keys |= _leaves(yaml.safe_load((folder / name).read_text()))
    keys |= {f"optim.{k}" for k in yaml.safe_load((folder / "optim" / "fsdp.yaml").read_text())}
    suggested = [
        setting.key if isinstance(setting, Scaled) else setting.partition("=")[0]
        for rule in RULES
        for settings in (rule.settings, *(c.settings or () for c in rule.criteria))
        for setting in settings
    ]

    assert len(suggested) > 15
    assert [key for key in suggested if key not in keys] == []


def test_severities_are_ordered_and_are_text():
    info, warning, error, critical = Severity

    assert info < warning < error < critical
    assert max([warning, critical, info]) is critical
    assert error >= Severity.ERROR > "warning"
    assert f"{error}" == "error" == error


def _leaves(node: object, above: str = "") -> set[str]:
    if not isinstance(node, dict):
        return {above}
    return {above} | {leaf for k, v in node.items() for leaf in _leaves(v, f"{above}.{k}" if above else str(k))}

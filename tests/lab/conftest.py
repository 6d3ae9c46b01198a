"""A lab, and run folders written as the trainer and the supervisor write them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from run_writer import RunWriter

from verl_lab import Lab
from verl_lab.domain.wire import RunLayout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from verl_lab import Run
    from verl_lab.domain.recipe import Recipe


@dataclass
class Written(RunWriter):
    """A run below a lab's runs."""

    lab: Lab = field(kw_only=True)

    @property
    def run(self) -> Run:
        return self.lab.run(self.id)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """Return a lab with a home of its own."""
    with Lab(tmp_path / "home") as made:
        yield made


@pytest.fixture
def write_run(lab: Lab) -> Callable[..., Written]:
    """Return what makes a run folder, with verl's configuration and the recipe's checks."""

    def write(
        name: str,
        *,
        config: Mapping[str, Any] | None = None,
        thresholds: Mapping[str, Any] | None = None,
        begun: float | None = None,
    ) -> Written:
        shown = {"trainer": {"test_freq": 10, "save_freq": 10, "n_gpus_per_node": 4, "nnodes": 2}}
        recipe = {"name": name, "checks": {"on_critical": "mark", "thresholds": thresholds or {}}}
        written = _written(lab, name, time.time() - 1100 if begun is None else begun)
        return written.launch(name, config=config or shown, recipe=recipe)

    return write


@pytest.fixture
def write_launch(lab: Lab) -> Callable[..., Written]:
    """Return what makes the folder of a run that was launched on a recipe, as ``lab.train`` leaves it."""

    def write(
        name: str,
        recipe: Recipe,
        *,
        overrides: Sequence[str] = (),
        config: Mapping[str, Any] | None = None,
        argv: Sequence[str] = (),
        datasets: Sequence[Mapping[str, Any]] = (),
        lineage: Mapping[str, Any] | None = None,
        verl: str = "0.9.1",
    ) -> Written:
        said: dict[str, Any] = {"recipe": recipe.model_dump(mode="json"), "algorithm": recipe.algorithm}
        said |= {"overrides": list(overrides), "versions": {"verl": verl}, "launch": {"argv": list(argv)}}
        said |= {"datasets": list(datasets)} if datasets else {}
        said |= {"lineage": dict(lineage)} if lineage is not None else {}
        return _written(lab, name, time.time() - 1100).launch(name, config=config, **said)

    return write


def _written(lab: Lab, name: str, begun: float) -> Written:
    return Written(RunLayout(lab.settings.runs_root / f"20260101-000000-{name}-0000"), begun, lab=lab)

"""Launching a run, on this machine or another: what is checked, what is written, and in which order."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from verl_lab.domain.host import LOCAL
from verl_lab.domain.run import new_run_id
from verl_lab.environments.pins import Versions
from verl_lab.errors import StoreError
from verl_lab.lab.comparing.origins import write_origins
from verl_lab.lab.hosts.environments import ready
from verl_lab.lab.launching.again import begin
from verl_lab.lab.launching.checks import alerts_of_lab, hand_over, rendered_for, rendered_if_sound
from verl_lab.lab.launching.code import lay_code, records_of
from verl_lab.lab.launching.pinning import Pinned, pinned, require_data
from verl_lab.lab.launching.planned import PlannedRun
from verl_lab.lab.launching.shipping import carry, elsewhere_for, require_shipped, ship
from verl_lab.lab.run import Run
from verl_lab.launch.launcher import LaunchSpec
from verl_lab.recipes.imports import user_code
from verl_lab.recipes.presets import with_preset

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from verl_lab.datasets.fingerprint import Progress
    from verl_lab.domain.recipe import Recipe
    from verl_lab.environments.remote import State
    from verl_lab.lab.lab import Lab
    from verl_lab.lab.launching.again import Beginning
    from verl_lab.recipes.render import Rendered
    from verl_lab.transport.base import Host


@dataclass(frozen=True)
class Order:
    """What is to be launched, as ``Lab.train`` was told."""

    recipe: str | Recipe | None
    overrides: Sequence[str]
    name: str | None
    host: str
    dry_run: bool
    parent: Run | str | None
    from_step: int | None
    preset: str | None


def launch(lab: Lab, order: Order, progress: Progress | None = None) -> Run:
    """Check a recipe and start it; parameters and errors as ``Lab.train``."""
    name, dry_run = order.name, order.dry_run
    progress = progress or lab.datasets.progress
    host = lab.hosts.get(order.host)
    if name is not None and lab.store.runs.get(name) is not None:
        return lab.run(name)
    there = None if order.host == LOCAL else ready(lab, order.host)
    beginning = begin(lab, order.recipe, order.overrides, order.parent, order.from_step)
    chosen = beginning.recipe
    settings = with_preset(order.preset, chosen, beginning.overrides)
    if there is None:
        rendered = rendered_if_sound(chosen, settings, for_launch=not dry_run, hosts=lab.hosts)
    else:
        device, python = "gpu" if there.role == "training" else "cpu", str(there.python)
        rendered = rendered_for(
            lab.hosts, order.host, chosen, settings, device=device, python=python, for_launch=not dry_run
        )
    code = user_code(rendered.checked.plan, Path.cwd())
    beginning.check(rendered, lab.hosts.get(beginning.host))
    alerts = alerts_of_lab(lab.settings.home)
    run_id = new_run_id(name or chosen.name)
    folder = str(_runs_root(lab, order.host) / run_id)
    if dry_run:
        return PlannedRun(lab, run_id, folder, name or chosen.name, rendered, settings, order.host)
    with _held(lab, host, rendered, there, progress) as data:
        # All that lies in the folder comes first, so that no run exists without it.
        hand_over(host, folder, rendered.recipe, alerts)
        _carried(lab, beginning, host, progress).lay_down(host, folder)
        kept = lab.recipes.keep(chosen)
        spec = LaunchSpec(
            run_id=run_id,
            name=name or chosen.name,
            argv=data.rendered.argv,
            env=data.rendered.env,
            cwd=str(Path.cwd()) if there is None else lay_code(host, folder, code),
            config_yaml=data.rendered.config_yaml,
            command=data.rendered.command,
            record={
                "recipe": rendered.recipe.model_dump(mode="json"),
                "recipe_version": kept.recipe,
                "recipe_source": kept.source,
                "algorithm": rendered.algorithm,
                "warnings": [str(problem) for problem in rendered.warnings],
                "overrides": list(settings),
                "datasets": list(data.records),
                "code": records_of(code),
                "host": order.host,
                "versions": _versions(there),
                "total_steps": rendered.total_steps,
                "parent": beginning.parents[0].run if beginning.parents else None,
                "lineage": write_origins(host, folder, rendered, beginning.parents, here=lab.host),
            },
        )
        lab.launcher_on(order.host).create(spec)
    try:
        lab.register(run_id, folder, order.host)
    except StoreError:  # nobody is to find a run that was refused and never begins
        lab.launcher_on(order.host).withdraw(run_id)
        raise
    lab.launcher_on(order.host).start(run_id)
    run = Run(lab, run_id, folder, order.host)
    with contextlib.suppress(StoreError):  # it trains; whoever looks at it follows it then
        run.follow()
    return run


def go_on(lab: Lab, run: Run, progress: Progress | None = None) -> None:
    """Begin the next attempt of a run, if the data it trained on are still there; see ``Run.resume``."""
    records: Sequence[dict[str, Any]] = run.launcher.read_record(run.folder).get("datasets") or ()
    if run.host_name == LOCAL:
        require_data(lab.datasets, records)
    else:
        python = lab.hosts.python(run.host_name)
        root = lab.hosts.root(run.host_name)
        require_shipped(lab.datasets, run.host, root, records, python=python, progress=progress)
    run.launcher.resume(run.folder)


def _runs_root(lab: Lab, host: str) -> PurePosixPath:
    return PurePosixPath(lab.settings.runs_root if host == LOCAL else f"{lab.hosts.root(host)}/runs")


@contextlib.contextmanager
def _held(
    lab: Lab, host: Host, rendered: Rendered, there: State | None, progress: Progress | None
) -> Generator[Pinned]:
    """Hold the data of a recipe as they are; what another machine trains on is brought there."""
    if there is None:
        with pinned(lab.datasets, rendered) as data:
            yield data
        return
    with pinned(lab.datasets, rendered, elsewhere=elsewhere_for(host)) as data:
        root, python = lab.hosts.root(host.name), lab.hosts.python(host.name)
        yield ship(host, root, data, lab.datasets, python=python, trains_with=there.python, progress=progress)


def _carried(lab: Lab, beginning: Beginning, host: Host, progress: Progress | None) -> Beginning:
    """Bring the checkpoint that a run goes on from to the machine where it does."""
    if beginning.checkpoint is None or beginning.host == host.name:
        return beginning
    checkpoint = carry(
        beginning.checkpoint,
        lab.hosts.get(beginning.host),
        host,
        lab.hosts.root(host.name),
        lab.datasets,
        scratch=lab.settings.home / "checkpoints",
        python=lab.hosts.python(host.name),
        source_python=lab.hosts.python(beginning.host),
        progress=progress,
    )
    return replace(beginning, checkpoint=checkpoint, host=host.name)


def _versions(there: State | None) -> dict[str, str]:
    if there is not None:
        # Nothing differs from what this release pins there: that was looked at just now.
        pins = Versions.load()
        return {"verl-lab": pins.verl_lab, "verl": pins.verl, "torch": pins.torch.get(there.role or "", "")}
    found: dict[str, str] = {}
    for package in ("verl-lab", "verl", "torch", "transformers", "ray", "vllm"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found

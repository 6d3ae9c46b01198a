"""What a run came from, as its launch record holds it: written at launch, read back from records of any age."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, cast

from verl_lab.domain.wire import RunLayout
from verl_lab.lab.weights import count_parameters
from verl_lab.recipes.diff import flat
from verl_lab.recipes.layers import MODEL_KEY, REWARD_KEY

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from verl_lab.recipes.render import Rendered
    from verl_lab.transport.base import Host

_CHECKPOINT = re.compile(r"(?P<folder>.*/(?P<run>[a-z0-9-]+))/checkpoints/global_step_(?P<step>\d+)(?:/|$)")
HASH_SHOWN = 12


@dataclass(frozen=True)
class Parent:
    """Another run that a run goes on from.

    Attributes
    ----------
    run
        Its id.
    step
        Of which checkpoint; None where the weights are not its.
    how
        ``weights`` (its model is where this one begins), ``fork`` (this one goes on in its place, optimiser and
        all), ``again`` (this one has its recipe).
    key
        The setting that names its checkpoint.
    """

    run: str
    step: int | None
    how: str
    key: str | None = None


@dataclass(frozen=True)
class Source:
    """One of the data sets of a run: content (``hash``, where it is known) that served as ``role``."""

    role: str
    hash: str | None
    name: str
    paths: tuple[str, ...] = ()


@dataclass(frozen=True)
class Origins:
    """What one run came from.

    Attributes
    ----------
    recipe, recipe_hash
        The recipe's name, and the hash of all that it says.
    model, parameters
        Where the weights were read from, and how many there are; None where that is not known.
    reward, reward_hash
        The reward function's file, and the hash of its bytes.
    verl
        The version of verl.
    """

    recipe: str | None
    recipe_hash: str | None
    model: str | None
    parameters: int | None
    reward: str | None
    reward_hash: str | None
    verl: str | None
    parents: tuple[Parent, ...] = ()
    datasets: tuple[Source, ...] = field(default=())


def write_origins(
    host: Host, folder: str, rendered: Rendered, parents: Sequence[Parent], *, here: Host | None = None
) -> dict[str, Any]:
    """Return the part of the launch record that says what a run comes from; its reward function is kept beside it.

    Parameters
    ----------
    folder
        The run's, on ``host``.
    rendered
        The recipe with the paths that the user gave.
    here
        The machine whose paths these are, where it is another one; what is not on it is looked for on ``host``.
    parents
        The runs that the user named; those whose checkpoints the configuration names are found here.
    """
    from omegaconf import OmegaConf

    settings = flat(cast("Mapping[str, Any]", OmegaConf.to_container(rendered.config, resolve=True)))
    model = settings.get(MODEL_KEY[rendered.recipe.trainer])
    reward = settings.get(f"{REWARD_KEY}.path")
    near = here or host
    kept = None if not reward else _keep(_reader(near, host, str(reward)), host, folder, str(reward))
    named = {(one.run, one.step) for one in parents}
    found = [one for one in _parents(near, settings) if (one.run, one.step) not in named]
    size = None if model is None else count_parameters(_reader(near, host, str(model)), str(model))
    return {
        "model": {"path": model, "parameters": size},
        "reward": None if not reward else {"path": str(reward), "hash": kept},
        "parents": [asdict(one) for one in (*parents, *found)],
    }


def read_origins(record: Mapping[str, Any]) -> Origins:
    """Return what a launch record says of a run's origins; what older records leave out is made from the rest."""
    recipe: Mapping[str, Any] = record.get("recipe") or {}
    written: Mapping[str, Any] | None = record.get("lineage")
    model, reward = _part(written, "model"), _part(written, "reward")
    path = model.get("path") or recipe.get("model")
    parents = (
        tuple(Parent(**one) for one in written.get("parents") or ())
        if written is not None
        else tuple(_of_path("model", str(path)))
    )
    return Origins(
        recipe=recipe.get("name"),
        recipe_hash=record.get("recipe_version") or (_hash_of(recipe) if recipe else None),
        model=path,
        parameters=model.get("parameters"),
        reward=reward.get("path") or _part(recipe, "reward").get("path"),
        reward_hash=reward.get("hash"),
        verl=_part(record, "versions").get("verl"),
        parents=parents,
        datasets=_datasets(record, recipe),
    )


def hash_of_bytes(content: bytes) -> str:
    """Return the hash by which code is told apart."""
    return hashlib.sha256(content).hexdigest()


def checkpoint_of(path: str) -> tuple[str, str, int] | None:
    """Return the run folder, the run's id and the step of a checkpoint that a path lies in."""
    found = _CHECKPOINT.match(path)
    return (found["folder"], found["run"], int(found["step"])) if found else None


def _part(written: Mapping[str, Any] | None, name: str) -> Mapping[str, Any]:
    return (written or {}).get(name) or {}


def _parents(host: Host, settings: Mapping[str, Any]) -> list[Parent]:
    """Find the runs whose checkpoints a configuration names, each with the settings that do."""
    found: dict[tuple[str, int], Parent] = {}
    for key, value in settings.items():
        if not isinstance(value, str) or "/" not in value:
            continue
        for one in _of_path(key, value, host) or _of_path(key, str(Path(value).resolve()), host):
            found.setdefault((one.run, one.step or 0), one)
    return list(found.values())


def _of_path(key: str, path: str, host: Host | None = None) -> list[Parent]:
    found = checkpoint_of(path)
    if found is None:
        return []
    folder, run, step = found
    # A folder of that shape that is no run of ours is a model like any other.
    if host is not None and host.stat(str(RunLayout(PurePosixPath(folder)).record)) is None:
        return []
    return [Parent(run, step, "weights", key)]


def _reader(near: Host, far: Host, path: str) -> Host:
    """Return the machine that has a path."""
    return far if path.startswith("/") and near.stat(path) is None else near


def _keep(source: Host, host: Host, folder: str, path: str) -> str | None:
    """Copy the reward function's file into the run's folder; return its hash, None where there is no such file."""
    if source.stat(path) is None:
        return None
    content = source.read(path)
    host.make_folder(folder)
    host.write_new(str(RunLayout(PurePosixPath(folder)).reward), content)
    return hash_of_bytes(content)


def _hash_of(recipe: Mapping[str, Any]) -> str:
    return hash_of_bytes(json.dumps(recipe, sort_keys=True, separators=(",", ":")).encode())


def _datasets(record: Mapping[str, Any], recipe: Mapping[str, Any]) -> tuple[Source, ...]:
    data: Mapping[str, Any] = recipe.get("data") or {}
    paths = {role: _listed(data.get(role)) for role in ("train", "val")}
    pinned: Sequence[Mapping[str, Any]] = record.get("datasets") or ()
    if pinned:
        return tuple(
            Source(str(one["role"]), one["hash"], str(one["name"]), tuple(map(str, one.get("paths") or ())))
            for one in pinned
        )
    return tuple(Source(role, None, PurePosixPath(path).name, (path,)) for role, some in paths.items() for path in some)


def _listed(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    return tuple(map(str, cast("list[object]", value))) if isinstance(value, list) else ()

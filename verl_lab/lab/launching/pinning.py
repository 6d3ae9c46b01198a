"""The data of a run, held as it is: what a launch trains on cannot change behind its back."""

from __future__ import annotations

import contextlib
import copy
import re
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from verl_lab.datasets import find
from verl_lab.domain.dataset import DatasetFile, Role, changes
from verl_lab.errors import InvalidInputError, NotFoundError
from verl_lab.recipes.layers import TRAIN_KEY, VAL_KEY
from verl_lab.recipes.overrides import literal
from verl_lab.recipes.paths import is_elsewhere

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    from verl_lab.lab.datasets import Datasets
    from verl_lab.recipes.render import Rendered

_ROLES: Mapping[str, Role] = {TRAIN_KEY: "train", VAL_KEY: "val"}


@dataclass(frozen=True)
class Pinned:
    """A rendered recipe whose data stay as they are.

    Attributes
    ----------
    rendered
        Its command and configuration name the copies.
    records
        What ``run.json`` says of the data, one mapping for each path.
    """

    rendered: Rendered
    records: tuple[dict[str, Any], ...]


@contextlib.contextmanager
def pinned(
    datasets: Datasets, rendered: Rendered, *, elsewhere: Callable[[str], bool] = is_elsewhere
) -> Generator[Pinned]:
    """Copy the data of a recipe, unless that was done before; write the run's record inside the block.

    Parameters
    ----------
    elsewhere
        Whether a path is none of this machine's, so that nothing here can say what it holds.

    Raises
    ------
    InvalidInputError
        A path holds other bytes than what was added there.
    TransportError
        The data cannot be read or copied, or are being written.
    """
    with datasets.snapshots.in_use():
        records: list[dict[str, Any]] = []
        moved: dict[str, Any] = {}
        for key, value in _data(rendered).items():
            paths = cast("list[str]", value) if isinstance(value, list) else [str(value)]
            made = [
                outside(path, _ROLES[key])
                if elsewhere(path)
                else _pin(datasets, path, _ROLES[key], copy=rendered.recipe.data.snapshot)
                for path in paths
            ]
            kept = [record["snapshot"] or path for path, record in zip(paths, made, strict=True)]
            moved[key] = kept if isinstance(value, list) else kept[0]
            records += made
        yield Pinned(with_values(rendered, moved), tuple(records))


def require_data(datasets: Datasets, records: Sequence[Mapping[str, Any]]) -> None:
    """Make sure that what a run trained on is still there, before it goes on; a lost copy is made again.

    Raises
    ------
    InvalidInputError
        It is gone, or has changed; the message says what.
    """
    with datasets.snapshots.in_use():
        for record in records:
            hashed, kept = record.get("hash"), record.get("snapshot")
            original = str(record["path"])
            if hashed is None or datasets.snapshots.intact(Path(str(kept or original)), str(hashed)):
                continue
            _restore(datasets, record, original, None if kept is None else Path(str(kept)))


def _restore(datasets: Datasets, record: Mapping[str, Any], original: str, kept: Path | None) -> None:
    """Make a copy again from where the data came from, if they are there as they were."""
    before = tuple(DatasetFile(one["path"], one["hash"], one["size"]) for one in record.get("files") or ())
    try:
        now = datasets.at(original)
    except (NotFoundError, InvalidInputError):
        what = f"{original} is gone"
    else:
        if now.hash == record["hash"] and kept is not None:
            datasets.pin(original, copy=True)
            return
        what = "; ".join(map(str, changes(before, now.files)[:5]))
    lost = "" if kept is None else f"The copy it trained on, {kept}, is missing or damaged, and "
    raise InvalidInputError(
        f"data: the run cannot go on with the data it began with. {lost}{what}.",
        "Put the data back as they were, or start a new run.",
    )


def _data(rendered: Rendered) -> dict[str, Any]:
    """Return the data that the command names."""
    from omegaconf import OmegaConf

    given = {text.partition("=")[0].lstrip("+") for text in rendered.overrides}
    found = {key: OmegaConf.select(rendered.config, key) for key in _ROLES if key in given}
    plain = {key: OmegaConf.to_container(v) if OmegaConf.is_config(v) else v for key, v in found.items()}
    return {key: value for key, value in plain.items() if value}


def outside(path: str, role: Role) -> dict[str, Any]:
    """Return the record of data that does not lie here: verl fetches it itself, or it lies on the run's host."""
    return {"role": role, "hash": None, "name": path, "path": path, "paths": [path], "snapshot": None}


def _pin(datasets: Datasets, path: str, role: Role, *, copy: bool) -> dict[str, Any]:
    version, kept = datasets.pin(path, copy=copy)
    found = find(path)
    return {
        "role": role,
        "hash": version.hash,
        "name": version.name,
        "rows": version.rows,
        "path": path,
        "paths": [path, str(kept)] if copy else [path],
        "snapshot": str(kept) if copy else None,
        "files": [
            {"path": name, "hash": file.hash, "size": file.size, "rows": file.rows}
            for name, file in zip(found.files, version.files, strict=True)
        ],
    }


def with_values(
    rendered: Rendered, values: Mapping[str, Any], *, env: Mapping[str, str] | None = None, python: str | None = None
) -> Rendered:
    """Change settings of a rendered recipe that are on its command: where it reads its data, for example.

    Parameters
    ----------
    env
        The environment, if it is to be another one.
    python
        The interpreter, likewise.
    """
    from omegaconf import OmegaConf

    config = copy.deepcopy(rendered.config)
    for key, value in values.items():
        OmegaConf.update(config, key, value)
    program = rendered.argv[0] if python is None else python
    argv = (program, *(_with_value(text, values) for text in rendered.argv[1:]))
    variables = rendered.env if env is None else dict(env)
    return replace(
        rendered,
        argv=argv,
        env=variables,
        config=config,
        config_yaml=OmegaConf.to_yaml(config, resolve=True),
        command=shlex.join(["env", *(f"{name}={value}" for name, value in variables.items()), *argv]),
        overrides=tuple(_with_value(text, values) for text in rendered.overrides),
    )


def _with_value(override: str, values: Mapping[str, Any]) -> str:
    name = override.partition("=")[0]
    key = re.sub(r"^\++", "", name)
    return f"{name}={literal(values[key])}" if key in values else override

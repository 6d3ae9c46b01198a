"""What a run reads, brought to the host that trains it: its data, model, reward function and checkpoint."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, cast

from verl_lab.datasets import find
from verl_lab.datasets.asking import listing
from verl_lab.datasets.far import FarCopies, everything
from verl_lab.datasets.snapshot import kept_name
from verl_lab.domain.host import LOCAL
from verl_lab.errors import InvalidInputError, NotFoundError
from verl_lab.lab.fetching import pull
from verl_lab.lab.launching.pinning import Pinned, with_values
from verl_lab.recipes.arithmetic import planned_steps
from verl_lab.recipes.layers import MODEL_KEY, TRAIN_KEY, VAL_KEY
from verl_lab.recipes.paths import is_elsewhere

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from verl_lab.datasets.fingerprint import Progress
    from verl_lab.lab.datasets import Datasets
    from verl_lab.recipes.render import Rendered
    from verl_lab.recipes.validate import Checked
    from verl_lab.transport.base import Host

_DATA = (TRAIN_KEY, VAL_KEY)
# verl's settings that name what is read. Where something is written to (``save_path``) is the host's affair.
_READ = ("path", "tokenizer", "quantization_config_file")
_WRITTEN = ("save_path",)


def elsewhere_for(host: Host) -> Callable[[str], bool]:
    """Return what says of a path whether it is none of this machine's: verl fetches it, or only the host has it."""
    return lambda path: is_elsewhere(path) or _is_only_there(host, path)


def sound_there(checked: Checked, host: Host) -> Checked:
    """Return what was checked without the mistake that a path is not here, where it lies on the host.

    What is there is not looked into: it is told as a warning.
    """
    problems = tuple(
        replace(
            problem,
            message=f"{problem.value} lies on {host.name} alone; it was not looked into.",
            suggestion=None,
            severity="warning",
        )
        if problem.severity == "error" and isinstance(problem.value, str) and _is_only_there(host, problem.value)
        else problem
        for problem in checked.problems
    )
    sound = replace(checked, problems=problems)
    if sound.errors or sound.settings is None or sound.total_steps is not None:
        return sound
    return replace(sound, total_steps=planned_steps(checked.plan.recipe.trainer, sound.settings, sound.rows))


def ship(
    host: Host,
    root: str,
    data: Pinned,
    datasets: Datasets,
    *,
    python: str | None = None,
    trains_with: str | None = None,
    progress: Progress | None = None,
) -> Pinned:
    """Bring everything that a rendered recipe reads from this machine to a host.

    A path that exists here is sent, unless the host has the same content; one that exists only there is used as it
    is.

    Parameters
    ----------
    root
        The lab's folder on the host.
    data
        The recipe, with its data held as they are; see ``pinned``.
    python
        An interpreter there that looks after files; any from 3.8 on.
    trains_with
        The interpreter there that trains; None leaves the one of the command.

    Returns
    -------
    Pinned
        With the host's paths in command, environment and configuration; the records name the copies there.

    Raises
    ------
    NotFoundError
        A setting names a path that is neither here nor there.
    NoSpaceError
        The host has no room for it; nothing of that content was sent.
    TransportError
        Something changed meanwhile, or could not be read, sent or written. ``UnreachableError``: the host was away
        for too long; the next call goes on where this one stopped.
    """
    shipper = _Shipper(host, FarCopies(host, root, python=python), datasets, progress)
    wanted = dict(_paths(data.rendered))
    for key, paths in wanted.items():
        shipper.require(key, paths)
    records = [shipper.data(record, copy=data.rendered.recipe.data.snapshot) for record in data.records]
    values: dict[str, Any] = {}
    for key, paths in wanted.items():
        there = [shipper.place(key, path) for path in paths]
        values[key] = there if _is_list(data.rendered, key) else there[0]
    env = {name: shipper.places.get(value, value) for name, value in data.rendered.env.items()}
    model = values.get(MODEL_KEY[data.rendered.recipe.trainer])
    if isinstance(model, str) and model.startswith("/"):
        env["HF_HUB_OFFLINE"] = "1"  # as here: it is a folder
    return Pinned(with_values(data.rendered, values, env=env, python=trains_with), tuple(records))


def require_shipped(
    datasets: Datasets,
    host: Host,
    root: str,
    records: Sequence[Mapping[str, Any]],
    *,
    python: str | None = None,
    progress: Progress | None = None,
) -> None:
    """Make sure that what a run trained on is still on its host, before it goes on; a lost copy is sent again.

    Raises
    ------
    InvalidInputError
        It is gone or has changed, there and here.
    TransportError
        As ``ship``.
    """
    copies = FarCopies(host, root, python=python)
    for record in records:
        content, path = record.get("hash"), str(record["path"])
        kept = str(record.get("snapshot") or path)
        if content is None:
            _require_same(host, record, python)
            continue
        name, size = PurePosixPath(kept).name, sum(int(one["size"]) for one in record.get("files") or ())
        if copies.find("datasets", str(content), name, size=size) is not None:
            continue
        source = next(
            (place for place in _copies_here(datasets, str(content), path) if kept_name(place.name) == kept_name(name)),
            None,
        )
        if source is None:
            raise InvalidInputError(
                f"data: the run cannot go on with the data it began with: {kept} on {host.name} is missing or damaged,"
                f" and {path} is not here as it was.",
                "Put the data back as they were, or start a new run.",
            )
        copies.keep("datasets", find(source), datasets.fingerprints, progress=progress)


def carry(  # noqa: PLR0913  two machines and what each needs
    checkpoint: str,
    source: Host,
    host: Host,
    root: str,
    datasets: Datasets,
    *,
    scratch: Path,
    python: str | None = None,
    source_python: str | None = None,
    progress: Progress | None = None,
) -> str:
    """Bring a checkpoint from the machine where it lies to the one where a run goes on from it.

    Parameters
    ----------
    checkpoint
        Its folder on ``source``.
    root
        The lab's folder on ``host``.
    scratch
        A folder of this machine, for one that comes from another.
    python, source_python
        An interpreter on ``host``, and on ``source``.

    Returns
    -------
    str
        Its folder on ``host``, with the same name.

    Raises
    ------
    TransportError
        As ``ship``.
    """
    if source.name == host.name:
        return checkpoint
    here = Path(checkpoint)
    if source.name != LOCAL:
        folder = scratch / here.parent.parent.name / here.name
        here = pull(source, checkpoint, folder, python=source_python, progress=progress)
    if host.name == LOCAL:
        return str(here)
    copies = FarCopies(host, root, python=python)
    return copies.keep("checkpoints", everything(here), datasets.fingerprints, progress=progress)


class _Shipper:
    """Settles one path after the other, each once."""

    def __init__(self, host: Host, copies: FarCopies, datasets: Datasets, progress: Progress | None) -> None:
        self._host = host
        self._copies = copies
        self._datasets = datasets
        self._progress = progress
        self.places: dict[str, str] = {}

    def require(self, key: str, paths: Sequence[str]) -> None:
        """Refuse a path that is nowhere."""
        for path in paths:
            if not _is_path(path) or _exists_here(path) or self._host.stat(path) is not None:
                continue
            raise NotFoundError(
                f"{key}: {path} is neither on this machine nor on {self._host.name}.",
                "Give a path of one of the two.",
            )

    def data(self, record: dict[str, Any], *, copy: bool) -> dict[str, Any]:
        """Bring what a record of pinned data names there; return the record as it is there."""
        path = str(record["path"])
        if record["hash"] is None:
            return self._left_there(record, hashed=copy) if _is_path(path) else record
        here = str(record["snapshot"] or path)
        found = find(here)
        if self._datasets.fingerprints.of(found).hash != record["hash"]:
            raise InvalidInputError(f"data: {here} was written to while the run was prepared.", "Launch it again.")
        there = self._copies.keep(
            "datasets",
            found,
            self._datasets.fingerprints,
            at=path,
            in_place=not copy,
            progress=self._progress,
        )
        self.places[here] = there
        return {**record, "snapshot": there if there != path else None, "paths": list(dict.fromkeys([path, there]))}

    def place(self, key: str, path: str) -> str:
        """Return where a path of this machine lies there, sending it unless that was done."""
        if path not in self.places:
            self.places[path] = self._sent(key, path) if _is_path(path) and _exists_here(path) else path
        return self.places[path]

    def _sent(self, key: str, path: str) -> str:
        is_folder = Path(path).is_dir()
        kind = "datasets" if key in _DATA else "models" if is_folder else "files"
        return self._copies.keep(
            kind,
            everything(path) if is_folder else find(path),
            self._datasets.fingerprints,
            at=path,
            in_place=True,
            progress=self._progress,
        )

    def _left_there(self, record: dict[str, Any], *, hashed: bool) -> dict[str, Any]:
        """Note what data that only the host has are, so that a change is seen when the run goes on."""
        path = str(record["path"])
        if self._progress is not None:
            self._progress(f"Reading {path} on {self._host.name}", 0, 1)
        found = listing(self._host, path, all_hashed=hashed, python=self._copies.python)
        if found is None:
            raise NotFoundError(f"data: {path} is not on {self._host.name} any more.")
        files = [{"path": name, "size": one.size, "sha256": one.sha256} for name, one in sorted(found.files.items())]
        return {**record, "name": PurePosixPath(path).name, "files": files}


def _require_same(host: Host, record: Mapping[str, Any], python: str | None) -> None:
    """Refuse data of the host's own that are not what they were."""
    before = {one["path"]: one["sha256"] for one in record.get("files") or () if one.get("sha256")}
    if not before:
        return
    path = str(record["path"])
    found = listing(host, path, all_hashed=True, python=python)
    now = {} if found is None else {name: one.sha256 for name, one in found.files.items()}
    if now != before:
        what = "is gone" if found is None else "has other content"
        raise InvalidInputError(
            f"data: the run cannot go on with the data it began with: {path} on {host.name} {what}.",
            "Put the data back as they were, or start a new run.",
        )


def _copies_here(datasets: Datasets, content: str, path: str) -> Iterator[Path]:
    """Give the places here that still hold a content."""
    for place in (*datasets.snapshots.of(content), Path(path)):
        if datasets.snapshots.intact(place, content):
            yield place


def _paths(rendered: Rendered) -> Iterator[tuple[str, list[str]]]:
    """Give the settings on the command that name what is read, with their paths."""
    from omegaconf import OmegaConf

    for text in rendered.overrides:
        key = text.partition("=")[0].lstrip("+")
        last = key.rpartition(".")[2]
        if key not in _DATA and (not last.endswith(_READ) or last in _WRITTEN):
            continue
        value = OmegaConf.select(rendered.config, key)
        plain = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
        paths = cast("list[Any]", plain if isinstance(plain, list) else [plain])
        if paths and all(isinstance(one, str) for one in paths) and any(_is_path(one) for one in paths):
            yield key, paths


def _is_list(rendered: Rendered, key: str) -> bool:
    from omegaconf import OmegaConf

    return OmegaConf.is_config(OmegaConf.select(rendered.config, key))


def _is_path(text: str) -> bool:
    return text.startswith("/") and not is_elsewhere(text)


def _exists_here(path: str) -> bool:
    return os.path.exists(path)  # noqa: PTH110  False for what cannot be a path, on every version


def _is_only_there(host: Host, path: str) -> bool:
    return _is_path(path) and not _exists_here(path) and host.stat(path) is not None

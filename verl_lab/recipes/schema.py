"""verl's own configuration: its keys, defaults and types, composed with Hydra alone.

verl's folder is found without importing it, so neither verl nor torch is loaded.
"""

from __future__ import annotations

import difflib
import importlib.util
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from verl_lab.errors import EnvironmentMismatchError, nearest
from verl_lab.recipes.annotations import Declarations, Kinds, kind_of, kinds

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence

    from omegaconf import DictConfig

    from verl_lab.domain.recipe import Trainer

TREES: Mapping[Trainer, str] = {"sft": "sft_trainer_engine", "dpo": "sft_trainer_engine", "ppo": "ppo_trainer"}
"""The name of the file in ``verl/trainer/config`` that each trainer reads."""

# Dictionaries that verl passes on as they are, though its files give them some keys already.
_ALSO_OPEN = ("ray_kwargs.ray_init", "reward.custom_reward_function.reward_kwargs")

# Where neither verl's files nor its dataclasses tell the type.
_FILES: Kinds = frozenset({"str", "list", "null"})
_UNDECLARED: Mapping[str, Kinds] = {
    "train_files": _FILES,
    "val_files": _FILES,
    "logger": frozenset({"list", "str"}),
    "total_training_steps": frozenset({"int", "null"}),
    "max_ckpt_to_keep": frozenset({"int", "null"}),
    "max_actor_ckpt_to_keep": frozenset({"int", "null"}),
    "max_critic_ckpt_to_keep": frozenset({"int", "null"}),
    "val_batch_size": frozenset({"int", "null"}),
    "gen_batch_size": frozenset({"int", "null"}),
    "num_cpus": frozenset({"int", "null"}),
    "rollout_data_dir": frozenset({"str", "null"}),
    "validation_data_dir": frozenset({"str", "null"}),
    "resume_from_path": frozenset({"str", "null"}),
}
# SFTTrainer also takes "after_each_epoch" here (verl/trainer/sft_trainer.py, SFTTrainer._init_engine).
_SFT_FREQUENCY: Mapping[str, Kinds] = {
    "trainer.save_freq": frozenset({"int", "str"}),
    "trainer.test_freq": frozenset({"int", "str"}),
}

# Hydra composes through one object of the whole process.
_hydra = threading.Lock()


@dataclass(frozen=True)
class Key:
    """One setting of verl.

    Attributes
    ----------
    name
        Dotted key.
    default
        verl's default, references resolved; None also where verl demands a value.
    kinds
        The kinds of value it takes; None where anything goes.
    declared_only
        verl's files leave it out, its dataclass has it: Hydra then wants a ``+``.
    """

    name: str
    default: Any
    kinds: Kinds
    declared_only: bool = False

    def takes(self, value: object) -> bool:
        """Whether a value is of a fitting kind; a reference to another key always is."""
        kind = kind_of(value)
        if self.kinds is None or kind in self.kinds or (isinstance(value, str) and "${" in value):
            return True
        return kind == "int" and "float" in self.kinds


@dataclass(frozen=True)
class Schema:
    """All settings of one trainer.

    Attributes
    ----------
    keys
        Every setting, by its dotted key.
    open_below
        Dictionaries under which any key may be added.
    groups
        Keys that hold other keys.
    """

    keys: Mapping[str, Key]
    open_below: frozenset[str]
    groups: frozenset[str]

    def is_open(self, key: str) -> bool:
        """Whether ``key`` lies in a dictionary that takes any key."""
        parts = key.split(".")
        return any(".".join(parts[:n]) in self.open_below for n in range(1, len(parts)))

    def complete(self, prefix: str) -> list[str]:
        """Return the keys in verl's files that begin with ``prefix``, sorted."""
        return sorted(key for key in self._written() if key.startswith(prefix))

    def nearest(self, key: str) -> list[str]:
        """Return the keys most like ``key``: those that end in the same name, then those spelled alike."""
        names, last = self._written(), key.rsplit(".", 1)[-1]
        same_end = [name for name in names if name.rsplit(".", 1)[-1] == last]
        same_end.sort(key=lambda name: difflib.SequenceMatcher(None, key, name).ratio(), reverse=True)
        return list(dict.fromkeys([*same_end, *nearest(key, names)]))[:3]

    def _written(self) -> list[str]:
        return [name for name, key in self.keys.items() if not key.declared_only]


def config_folder() -> Path:
    """Return verl's folder of configuration files.

    Raises
    ------
    EnvironmentMismatchError
        If verl is not installed here.
    """
    found = importlib.util.find_spec("verl")
    for location in (found.submodule_search_locations or ()) if found else ():
        folder = Path(location) / "trainer" / "config"
        if folder.is_dir():
            return folder.resolve()
    raise EnvironmentMismatchError(
        "verl is not installed here, so its settings cannot be checked.", "Install the training or cpu environment."
    )


def compose(trainer: Trainer, overrides: Sequence[str] = ()) -> DictConfig:
    """Compose verl's configuration as its trainer will; ``overrides`` are in Hydra's notation.

    Raises
    ------
    EnvironmentMismatchError
        If verl is not installed here.
    hydra.errors.HydraException
        If Hydra refuses an override.
    """
    import hydra

    folder = config_folder()
    with _hydra, _own_hydra(), hydra.initialize_config_dir(str(folder), version_base=None):
        return hydra.compose(TREES[trainer], overrides=list(overrides))


@contextmanager
def _own_hydra() -> Generator[None]:
    """Set aside the Hydra that the user's notebook may have initialised, and put it back."""
    from hydra.core.global_hydra import GlobalHydra

    instance = GlobalHydra.instance()
    users = instance.hydra
    instance.clear()
    try:
        yield
    finally:
        GlobalHydra.instance().hydra = users


def schema_of(trainer: Trainer) -> Schema:
    """Return the settings of a trainer; read once a process. Errors as ``compose``."""
    return _read(trainer, config_folder())


@lru_cache(maxsize=8)
def _read(trainer: Trainer, folder: Path) -> Schema:
    config = compose(trainer)
    reader = _Reader(Declarations(folder.parents[1]), {} if trainer == "ppo" else _SFT_FREQUENCY)
    reader.read(config, "")
    reader.open_below.update(key for key in _ALSO_OPEN if key.rsplit(".", 1)[0] in reader.groups)
    return Schema(reader.keys, frozenset(reader.open_below), frozenset(reader.groups))


class _Reader:
    """Walks a composed configuration beside the dataclasses its nodes name."""

    def __init__(self, declarations: Declarations, known: Mapping[str, Kinds]) -> None:
        self.keys: dict[str, Key] = {}
        self.open_below: set[str] = set()
        self.groups: set[str] = set()
        self._declarations = declarations
        self._known = known

    def read(self, node: DictConfig, prefix: str) -> None:
        from omegaconf import DictConfig, OmegaConf

        target = node.get("_target_")
        declared = self._declarations.fields(str(target).rsplit(".", 1)[-1]) if target else {}
        for name in cast("Iterator[str]", iter(node)):
            key = f"{prefix}.{name}" if prefix else name
            if name == "_target_":
                continue
            value = None if OmegaConf.is_missing(node, name) else node[name]
            if isinstance(value, DictConfig) and len(value):
                self.groups.add(key)
                self.read(value, key)
                continue
            plain: Any = OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
            self._add(key, plain, self._kinds(key, plain, kinds(declared[name]) if name in declared else None))
        for name in declared.keys() - node.keys():
            self._add_declared(f"{prefix}.{name}", declared[name])

    def _add(self, key: str, default: object, allowed: Kinds, *, declared_only: bool = False) -> None:
        self.keys[key] = Key(key, default, allowed, declared_only)
        if default == {} or (allowed is not None and "dict" in allowed):
            self.open_below.add(key)

    def _add_declared(self, key: str, annotation: Any) -> None:
        inner = self._declarations.is_class(annotation)
        if inner is None:
            allowed = kinds(annotation)
            self._add(key, None, None if allowed is None else allowed | {"null"}, declared_only=True)
            return
        self.groups.add(key)
        for name, part in self._declarations.fields(inner).items():
            self._add_declared(f"{key}.{name}", part)

    def _kinds(self, key: str, default: object, declared: Kinds) -> Kinds:
        known = self._known.get(key) or _UNDECLARED.get(key.rsplit(".", 1)[-1])
        if known is not None:
            return known
        kind = kind_of(default)
        if declared is not None:
            return declared | {kind}
        return None if default is None else frozenset({kind})

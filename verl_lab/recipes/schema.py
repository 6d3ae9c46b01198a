"""verl's own configuration: its keys, defaults and types, composed with Hydra alone.

It is read from the snapshot that comes with verl-lab, so verl and torch need not be installed.
"""

from __future__ import annotations

import copy
import difflib
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import yaml

from verl_lab.errors import nearest
from verl_lab.recipes.annotations import Declarations, Field, Kinds, kind_of
from verl_lab.recipes.layers import CPU_ROLLOUT
from verl_lab.recipes.snapshot import chosen_version, folder_of

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence

    from omegaconf import DictConfig

    from verl_lab.domain.recipe import Trainer

TREES: Mapping[Trainer, str] = {"sft": "sft_trainer_engine", "dpo": "sft_trainer_engine", "ppo": "ppo_trainer"}
"""The name of the file in ``verl/trainer/config`` that each trainer reads."""

OWN_SETTINGS: Mapping[Trainer, Path] = {"dpo": Path(__file__).with_name("dpo_settings.yaml")}
"""Settings that verl's tree does not have: those of verl-lab's own trainers."""

# Dictionaries that verl passes on as they are, though its files give them some keys already.
_ALSO_OPEN = ("ray_kwargs.ray_init", "reward.custom_reward_function.reward_kwargs", "reward.reward_kwargs")

# Where neither verl's files nor its dataclasses tell the type.
_FILES: Kinds = frozenset({"str", "list", "null"})
_COUNT: Kinds = frozenset({"int", "null"})
_PATH: Kinds = frozenset({"str", "null"})
_UNDECLARED: Mapping[str, Kinds] = {
    "train_files": _FILES,
    "val_files": _FILES,
    "logger": frozenset({"list", "str"}),
    "total_training_steps": _COUNT,
    "max_ckpt_to_keep": _COUNT,
    "max_actor_ckpt_to_keep": _COUNT,
    "max_critic_ckpt_to_keep": _COUNT,
    "val_batch_size": _COUNT,
    "gen_batch_size": _COUNT,
    "num_cpus": _COUNT,
    "rollout_data_dir": _PATH,
    "validation_data_dir": _PATH,
    "resume_from_path": _PATH,
    "reference_path": _PATH,
}
# In one tree alone.
_UNDECLARED_IN: Mapping[Trainer, Mapping[str, Kinds]] = {
    # SFTTrainer also takes "after_each_epoch" here (verl/trainer/sft_trainer.py, SFTTrainer._init_engine).
    "sft": {"trainer.save_freq": frozenset({"int", "str"}), "trainer.test_freq": frozenset({"int", "str"})},
    "dpo": {
        "trainer.save_freq": frozenset({"int", "str"}),
        "trainer.test_freq": frozenset({"int", "str"}),
        "dpo.max_prompt_length": _COUNT,
    },
    "ppo": {},
}
_OWN_CHOICES: Mapping[str, tuple[str, ...]] = {
    "actor_rollout_ref.rollout.name": (CPU_ROLLOUT,),
    "dpo.loss_type": ("sigmoid", "ipo"),
}
"""Choices that verl-lab adds to verl's."""

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
    choices
        The texts it takes, or its items where it is a list; empty where any will do.
    declared_only
        verl's files leave it out, its dataclass has it: Hydra then wants a ``+``.
    is_own
        It is verl-lab's: verl's files do not have it, and the trainer is always told its value.
    """

    name: str
    default: Any
    kinds: Kinds
    choices: tuple[str, ...] = ()
    declared_only: bool = False
    is_own: bool = False

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


def compose(trainer: Trainer, overrides: Sequence[str] = ()) -> DictConfig:
    """Compose verl's configuration as its trainer will; ``overrides`` are in Hydra's notation.

    Raises
    ------
    hydra.errors.HydraException
        If Hydra refuses an override.
    """
    return _compose(TREES[trainer], chosen_version(), overrides)


def compose_values(trainer: Trainer, values: Mapping[str, Any]) -> DictConfig:
    """Compose verl's configuration with settings whose keys were checked.

    It is what ``compose`` gives with them as overrides, in a fraction of the time: verl's files are composed once a
    process.

    Raises
    ------
    omegaconf.errors.OmegaConfBaseException
        If a setting cannot be where it is put, as below one that is no group.
    """
    from omegaconf import OmegaConf

    config = copy.deepcopy(_defaults(TREES[trainer], chosen_version()))
    for key, value in values.items():
        OmegaConf.update(config, key, value, merge=True, force_add=True)
    return config


@lru_cache(maxsize=4)
def _defaults(tree: str, version: str) -> DictConfig:
    return _compose(tree, version, ())


def _compose(tree: str, version: str, overrides: Sequence[str]) -> DictConfig:
    import hydra

    folder = folder_of(version) / "config"
    with _hydra, _own_hydra(), hydra.initialize_config_dir(str(folder), version_base=None):
        return hydra.compose(tree, overrides=list(overrides))


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


def schema_of(trainer: Trainer, version: str | None = None) -> Schema:
    """Return the settings of a trainer, by default in the version of verl that holds here; read once a process."""
    return _read(trainer, version or chosen_version())


@lru_cache(maxsize=8)
def _read(trainer: Trainer, version: str) -> Schema:
    reader = _Reader(trainer, Declarations(folder_of(version) / "declarations.json"))
    reader.read(_defaults(TREES[trainer], version), "")
    if trainer in OWN_SETTINGS:
        reader.read_own(yaml.safe_load(OWN_SETTINGS[trainer].read_bytes()), "")
    reader.open_below.update(key for key in _ALSO_OPEN if key.rsplit(".", 1)[0] in reader.groups)
    return Schema(reader.keys, frozenset(reader.open_below), frozenset(reader.groups))


class _Reader:
    """Walks a composed configuration beside the classes its nodes name."""

    def __init__(self, trainer: Trainer, declarations: Declarations) -> None:
        self.keys: dict[str, Key] = {}
        self.open_below: set[str] = set()
        self.groups: set[str] = set()
        self._tree = TREES[trainer]
        self._declarations = declarations
        self._known = _UNDECLARED_IN[trainer]

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
            self._add(key, plain, declared.get(name))
        for name in declared.keys() - node.keys():
            self._add_declared(f"{prefix}.{name}", declared[name])

    def read_own(self, node: Mapping[str, Any], prefix: str) -> None:
        for name, value in node.items():
            key = f"{prefix}.{name}" if prefix else name
            if isinstance(value, dict):
                self.groups.add(key)
                self.read_own(cast("dict[str, Any]", value), key)
            else:
                self.keys[key] = Key(key, value, self._kinds(key, value, None), _OWN_CHOICES.get(key, ()), is_own=True)

    def _add(self, key: str, default: object, declared: Field | None) -> None:
        allowed = self._kinds(key, default, None if declared is None else declared.kinds)
        self._keep(Key(key, default, allowed, self._choices(key, declared)))

    def _add_declared(self, key: str, field: Field) -> None:
        if field.holds is None:
            allowed = None if field.kinds is None else field.kinds | {"null"}
            self._keep(Key(key, None, allowed, self._choices(key, field), declared_only=True))
            return
        self.groups.add(key)
        for name, part in self._declarations.fields(field.holds).items():
            self._add_declared(f"{key}.{name}", part)

    def _keep(self, key: Key) -> None:
        self.keys[key.name] = key
        if key.default == {} or (key.kinds is not None and "dict" in key.kinds):
            self.open_below.add(key.name)

    def _choices(self, key: str, declared: Field | None) -> tuple[str, ...]:
        found = self._declarations.choices(self._tree, key) or (declared.choices if declared else ())
        return (*found, *_OWN_CHOICES.get(key, ())) if found else ()

    def _kinds(self, key: str, default: object, declared: Kinds) -> Kinds:
        known = self._known.get(key) or _UNDECLARED.get(key.rsplit(".", 1)[-1])
        if known is not None:
            return known
        kind = kind_of(default)
        if declared is not None:
            return declared | {kind}
        return None if default is None else frozenset({kind})

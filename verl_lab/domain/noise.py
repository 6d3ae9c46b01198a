"""Which settings say nothing about the training: where things are written, what they are called, which port."""

from __future__ import annotations

_NAMES = frozenset(
    {"experiment_name", "project_name", "run_id", "default_local_dir", "save_path", "port", "seed"}
    | {"name", "version", "description", "notes", "extends"}  # a recipe's own, which stand at its top
)
_ENDS = ("_dir", "_port", "_seed")
_TOP_ONLY = frozenset({"name", "version", "description", "notes", "extends"})


def is_noise(key: str) -> bool:
    """Say whether a setting names a place to write to, a port, a seed, or the run or recipe itself.

    Where a model, data or a reward function are read from is none: what lies there decides the training.
    """
    above, _, leaf = key.rpartition(".")
    if leaf in _TOP_ONLY:
        return not above
    return leaf in _NAMES or leaf.endswith(_ENDS)

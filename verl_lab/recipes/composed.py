"""verl's composed configuration, read by dotted key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from omegaconf import DictConfig


class Settings(dict[str, Any]):
    """verl's resolved settings by dotted key; None for one that is not there.

    Raises
    ------
    omegaconf.errors.OmegaConfBaseException
        If a reference leads nowhere or in a circle.
    """

    def __init__(self, config: DictConfig) -> None:
        from omegaconf import OmegaConf

        super().__init__()
        self._tree: Any = OmegaConf.to_container(config, resolve=True)

    def __missing__(self, key: str) -> Any:
        found: Any = self._tree
        for part in key.split("."):
            if not isinstance(found, dict) or part not in found:
                return None
            found = cast("dict[str, Any]", found)[part]
        self[key] = found
        return found

    def number(self, key: str, otherwise: float = 0) -> float:
        """Return a setting that is a number; ``otherwise`` where it is none."""
        value = self[key]
        return value if isinstance(value, (int, float)) and not isinstance(value, bool) else otherwise

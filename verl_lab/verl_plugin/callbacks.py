"""Hooks into a training: the public base class, loading by dotted name, and isolated dispatch."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections import Counter
from typing import TYPE_CHECKING, Any

from verl_lab.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from verl_lab.verl_plugin.writer import EventLog


class TrainerCallback:
    """What a user may do at the turning points of a training; every hook does nothing by default.

    Subclass it, name the subclass in the recipe (``package.module.Class``), and verl-lab makes one
    without arguments in the process that trains (with several ranks: in the first). What a hook
    raises is recorded as an event ``callback_failed`` and never ends training.
    """

    def on_train_begin(self) -> None:
        """Run when model and data are loaded, before the first validation and step."""

    def on_step_end(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Run when a step is done, with everything verl logs for it; the mapping must not be changed."""

    def on_validation_end(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Run after a validation; step 0 is the one before training."""

    def on_checkpoint_saved(self, step: int, path: Path) -> None:
        """Run when the checkpoint of ``step`` lies complete in ``path``."""

    def on_train_end(self, state: str) -> None:
        """Run at the end, with the state ``completed`` or ``stopped``; not after an error."""

    def on_exception(self, error: BaseException) -> None:
        """Run when training ends with an error, before the process does."""


class CallbackList:
    """Calls one hook of all callbacks, in order, and records those that raise.

    Parameters
    ----------
    callbacks
        Called in this order.
    events
        Where a failure is recorded: the first of a hook, then the 2nd, 4th, 8th and so on.
    """

    def __init__(self, callbacks: Iterable[TrainerCallback], events: EventLog) -> None:
        self._callbacks = list(callbacks)
        self._events = events
        self._failures: Counter[tuple[int, str]] = Counter()

    def call(self, hook: str, *arguments: Any) -> None:
        """Call ``hook`` of every callback."""
        for position, callback in enumerate(self._callbacks):
            try:
                getattr(callback, hook)(*arguments)
            except Exception as error:  # noqa: BLE001  a user's code may raise anything; training goes on
                self._record(position, callback, hook, error)

    def _record(self, position: int, callback: TrainerCallback, hook: str, error: Exception) -> None:
        self._failures[position, hook] += 1
        count = self._failures[position, hook]
        if is_worth_recording(count):
            kind = type(callback)
            self._events.emit(
                "callback_failed",
                callback=f"{kind.__module__}.{kind.__qualname__}",
                hook=hook,
                error=describe_error(error),
                traceback=format_traceback(error),
                count=count,
            )


def load_callbacks(names: str) -> list[TrainerCallback]:
    """Make the callbacks of a comma-separated list of dotted names.

    Raises
    ------
    InvalidInputError
        If a name cannot be imported, is no ``TrainerCallback``, or cannot be made without arguments.
    """
    # Ray's workers do not have the launch folder on their path, as ``python -m`` gives it.
    if (here := os.getcwd()) not in sys.path and "" not in sys.path:  # noqa: PTH109  sys.path holds strings
        sys.path.append(here)
    return [_load_callback(name.strip()) for name in names.split(",") if name.strip()]


def _load_callback(name: str) -> TrainerCallback:
    module_name, _, class_name = name.rpartition(".")
    hint = "Give it as package.module.Class, importable from the folder of the launch or from PYTHONPATH."
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except Exception as error:  # importing runs the user's module, which may raise anything
        raise InvalidInputError(f"callback: {name!r} cannot be imported ({describe_error(error)}).", hint) from error
    if not (isinstance(found, type) and issubclass(found, TrainerCallback)):
        raise InvalidInputError(
            f"callback: {name!r} is no TrainerCallback.", "Subclass verl_lab.verl_plugin.TrainerCallback."
        )
    try:
        return found()
    except Exception as error:  # the same, for its constructor
        raise InvalidInputError(
            f"callback: {name!r} cannot be made ({describe_error(error)}).", "It is called without arguments."
        ) from error


def is_worth_recording(count: int) -> bool:
    """Return whether the ``count``-th of one repeated mishap gets an event: the 1st, 2nd, 4th, 8th and so on."""
    return count & (count - 1) == 0


def describe_error(error: BaseException) -> str:
    """Return class and message in one line; of Ray's, which quote a traceback, its last one."""
    message = str(error).strip().splitlines()
    return f"{type(error).__name__}: {message[-1]}" if message else type(error).__name__


def format_traceback(error: BaseException) -> str:
    """Return the whole traceback as text."""
    return "".join(traceback.format_exception(type(error), error, error.__traceback__))

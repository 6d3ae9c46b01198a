"""What both training commands do before they train: load verl and see that verl loaded the plugin."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from verl_lab.errors import EnvironmentMismatchError, VerlLabError
from verl_lab.verl_plugin.attempt import CALLBACKS_VARIABLE, Attempt
from verl_lab.verl_plugin.callbacks import describe_error, format_traceback, load_callbacks
from verl_lab.verl_plugin.importing import importing
from verl_lab.verl_plugin.progress import Progress
from verl_lab.verl_plugin.writer import EventLog

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

_ENTRY = "verl_lab.verl_plugin.entry"


class Launch:
    """The part of a training before the trainer reports for itself.

    Parameters
    ----------
    is_reporting
        Whether this process is the one of its kind that writes the run folder.
    """

    def __init__(self, *, is_reporting: bool = True) -> None:
        attempt = Attempt.from_environment() if is_reporting else None
        self._progress = Progress(attempt.layout.progress if attempt else None)
        self._events = EventLog(attempt, "driver")
        # Otherwise Hydra cuts its own guess of what matters out of a traceback.
        os.environ.setdefault("HYDRA_FULL_ERROR", "1")

    def enter(self, phase: str) -> None:
        """Say what happens now."""
        self._progress.enter(phase)

    def load_verl(self) -> None:
        """Import verl, check that its entry point loaded the plugin, and try the user's callbacks.

        Raises
        ------
        EnvironmentMismatchError
            If verl did not load the plugin: training would run unobserved, and on the wrong device.
        InvalidInputError
            If a callback cannot be loaded.
        """
        self.enter("loading verl")
        with importing():
            import verl
            from verl.plugin.platform import get_platform

        if _ENTRY not in sys.modules:
            raise EnvironmentMismatchError(
                "verl did not load the verl-lab plugin.",
                "Install verl-lab where verl is, and leave VERL_USE_EXTERNAL_PLUGINS unset; "
                "if it is, an event plugin_failed says what broke.",
            )
        load_callbacks(os.environ.get(CALLBACKS_VARIABLE, ""))
        self._events.emit("plugin_loaded", verl=verl.__version__, platform=get_platform().device_name)

    def fail(self, error: Exception) -> None:
        """Record an error, unless the trainer's own process, a Ray worker, has recorded it."""
        if not _was_raised_in_worker(error):
            kind = "plugin_failed" if isinstance(error, EnvironmentMismatchError) else "exception"
            self._events.emit(kind, error=describe_error(error), traceback=format_traceback(error))


@contextmanager
def reporting_failure(report: Callable[[Exception], None]) -> Generator[None, None, None]:
    """Report an error before it ends the process; one that a user can mend is printed as one line."""
    try:
        yield
    except VerlLabError as error:
        report(error)
        sys.stderr.write(f"verl-lab: {error.message} {error.hint or ''}".rstrip() + "\n")
        sys.exit(1)
    except Exception as error:
        report(error)
        raise


def _was_raised_in_worker(error: Exception) -> bool:
    ray = sys.modules.get("ray")
    return ray is not None and isinstance(error, ray.exceptions.RayTaskError)

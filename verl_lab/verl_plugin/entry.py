"""What verl loads inside every ``import verl``, in the driver and in Ray's workers.

verl swallows an error raised here, and would go on without the plugin: the error is recorded first,
and the training commands look whether this module was loaded. Trainers, engines and rollouts import
much of verl, so they register themselves where they are used (``task_runner``, ``cpu.workers``).
"""

from __future__ import annotations

import importlib
import os

from verl_lab.verl_plugin.attempt import Attempt
from verl_lab.verl_plugin.callbacks import describe_error, format_traceback
from verl_lab.verl_plugin.importing import settle
from verl_lab.verl_plugin.writer import EventLog

_attempt = Attempt.from_environment()
_events = EventLog(_attempt, f"worker-{os.getpid()}")

try:
    from verl_lab.verl_plugin import log_watch

    # Registers the platform "cpu".
    importlib.import_module("verl_lab.verl_plugin.cpu.platform")
    if _attempt is not None:
        log_watch.install(_events)
        settle()
except Exception as error:
    _events.emit("plugin_failed", error=describe_error(error), traceback=format_traceback(error))
    raise

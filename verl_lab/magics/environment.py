"""``%verl_env``: what is installed here or on a host, and setting a host up."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

from IPython.display import display  # pyright: ignore[reportUnknownVariableType]

from verl_lab.domain.host import LOCAL
from verl_lab.lab.hosts import environments
from verl_lab.magics.line import MagicError, argument
from verl_lab.magics.progress import Line

if TYPE_CHECKING:
    import argparse

    from verl_lab.environments.report import Report
    from verl_lab.lab import Lab

ARGUMENTS = (
    argument("host", metavar="HOST", nargs="?", default=LOCAL, help="a host; default: this machine"),
    argument("--setup", action="store_true", help="make, complete or repair the host's environment"),
    argument(
        "--role",
        choices=("manager", "training", "cpu"),
        help="default: the one that is installed; for --setup, training where there is a GPU, else cpu",
    ),
    argument(
        "--offline", action="store_true", help="send the packages from here; without this, only where it is needed"
    ),
)
_SHOWN_LINES = 8
_PAUSE_S = 0.2


def show_environment(lab: Lab, args: argparse.Namespace) -> Report:
    """Report on an environment, after setting it up where that was asked for."""
    if not args.setup:
        if args.offline:
            raise MagicError("--offline says how to set up: add --setup.")
        return environments.environment(lab, args.host, args.role)
    tail = Tail()
    try:
        return environments.setup(lab, args.host, args.role, offline=args.offline or None, progress=tail.add)
    except KeyboardInterrupt:
        again = f"%verl_env {args.host} --setup"
        raise MagicError(f"Not waiting any more; what was begun on {args.host} goes on. {again} follows it.") from None
    finally:
        tail.show()


class Tail:
    """The last lines of something long, in one place of the notebook."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=_SHOWN_LINES)
        self._handle = None
        self._shown = 0.0

    def add(self, line: str) -> None:
        """Take a line, and show it soon."""
        if line.strip():
            self._lines.append(line)
        if time.monotonic() - self._shown >= _PAUSE_S:
            self.show()

    def show(self) -> None:
        """Show what there is now."""
        self._shown = time.monotonic()
        text = Line("\n".join(self._lines))
        if self._handle is None:
            self._handle = display(text, display_id=True)
        else:
            self._handle.update(text)

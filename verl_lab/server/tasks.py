"""What goes on after its request was answered: asked about by its number until it is done, and a while after."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from verl_lab.errors import NotFoundError, VerlLabError
from verl_lab.server.faults import TooManyError, without_paths

if TYPE_CHECKING:
    from collections.abc import Callable

    from verl_lab.server.answers import Task as TaskAnswer

_MOST_KEPT = 100
_MOST_AT_WORK = 8
_MOST_LINES = 200


@dataclass
class Task:
    """One thing that goes on. Its lines are the last 200 of what it printed."""

    done: bool = False
    ok: bool = False
    message: str = ""
    lines: deque[str] = field(default_factory=lambda: deque[str](maxlen=_MOST_LINES))


class Tasks:
    """All of them; the oldest of those that are done are forgotten."""

    def __init__(self) -> None:
        self._changing = threading.Lock()
        self._tasks: OrderedDict[str, Task] = OrderedDict()
        self._threads: set[threading.Thread] = set()

    def begin(self, work: Callable[[Callable[[str], None]], str]) -> str:
        """Let ``work`` go on in a thread of its own, and return its number.

        Parameters
        ----------
        work
            Called with what takes its lines; returns what is said at the end, or raises ``VerlLabError``.

        Raises
        ------
        TooManyError
            Eight are at work already.
        """
        task, number = Task(), secrets.token_hex(8)
        thread = threading.Thread(target=self._do, args=(task, work), name="verl-lab-server-task", daemon=True)
        with self._changing:
            if len(self._threads) >= _MOST_AT_WORK:
                raise TooManyError(f"{_MOST_AT_WORK} setups are at work already.", "Ask again when one is done.")
            self._tasks[number] = task
            done = [key for key, one in self._tasks.items() if one.done]
            for key in done[: max(0, len(self._tasks) - _MOST_KEPT)]:
                del self._tasks[key]
            self._threads.add(thread)
        thread.start()
        return number

    def told(self, number: str) -> TaskAnswer:
        """Return where a task stands.

        Raises
        ------
        NotFoundError
            There is none of that number.
        """
        with self._changing:
            task = self._tasks.get(number)
            if task is None:
                raise NotFoundError(f"There is no task {number}.", "It was forgotten, or the server was started anew.")
            return {"done": task.done, "ok": task.ok, "lines": list(task.lines), "message": task.message}

    def join(self, timeout_s: float) -> None:
        """Wait for those at work; their connections are closed by now."""
        with self._changing:
            threads = list(self._threads)
        for thread in threads:
            thread.join(timeout_s)

    def _do(self, task: Task, work: Callable[[Callable[[str], None]], str]) -> None:
        ok, message = False, "It failed; the server's log says why."
        try:
            message, ok = work(task.lines.append), True
        except VerlLabError as error:
            message = without_paths(str(error), "")
        finally:
            with self._changing:
                task.message, task.ok, task.done = message, ok, True
                self._threads.discard(threading.current_thread())

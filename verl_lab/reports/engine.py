"""papermill's engine, telling what cells do while they do it, and able to be given up."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, Any

from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import Engine, papermill_engines

if TYPE_CHECKING:
    from collections.abc import Callable

    from nbformat import NotebookNode

NAME = "verl-lab"
_LONGEST = 90


class Execution:
    """One notebook that is executed.

    Parameters
    ----------
    say, update
        Called with lines that stay, and with a line that replaces the one before, by the thread that executes.
    workdir
        The folder the kernel runs in.

    Attributes
    ----------
    notebook
        With the outputs there are up to now; None before the first cell.
    is_given_up
        Whether nothing more is wanted of it.
    """

    def __init__(self, say: Callable[[str], object], update: Callable[[str], object], workdir: str) -> None:
        self.say = say
        self.update = update
        self.workdir = workdir
        self.notebook: NotebookNode | None = None
        self.is_given_up = False
        self._client: _Client | None = None
        self._begun = time.monotonic()
        self._done = 0

    def give_up(self) -> None:
        """End the kernel, and with it the execution."""
        self.is_given_up = True
        provisioner = getattr(getattr(self._client, "km", None), "provisioner", None)
        pid = getattr(provisioner, "pid", None)
        if pid is not None and provisioner is not None and provisioner.has_process:
            os.kill(pid, signal.SIGKILL)

    def begins(self, client: _Client) -> None:
        """Take note of what executes."""
        self._client = client
        self.notebook = client.nb

    def cell_begins(self, cell: NotebookNode) -> None:
        """Say which cell it is."""
        if self.notebook is None or cell.cell_type != "code":
            return
        self._done += 1
        total = sum(1 for one in self.notebook.cells if one.cell_type == "code")
        first = next((line for line in str(cell.source).splitlines() if line.strip()), "")
        self.say(f"[{time.monotonic() - self._begun:4.0f} s] cell {self._done} of {total}: {first[:_LONGEST]}")


class GivenUpError(Exception):
    """Nobody waits for the notebook any more."""


class _Client(PapermillNotebookClient):
    """Tells what cells print while they run; papermill itself is silent until the end."""

    execution: Execution

    def process_message(self, msg: dict[str, Any], cell: NotebookNode, cell_index: int) -> NotebookNode | None:
        """Pass a kernel's message on to papermill, and its text to whoever waits."""
        content, kind = msg["content"], msg["msg_type"]
        if kind == "stream":
            self.execution.say(str(content["text"]).rstrip("\n"))
        elif kind == "update_display_data":
            text = str(content["data"].get("text/plain", ""))
            if "\n" not in text:
                self.execution.update(text)
        return super().process_message(msg, cell, cell_index)


class _Engine(Engine):
    @classmethod
    def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, *, execution: Execution, **options: Any) -> None:
        # ipykernel warns that loopback is not encrypted, as every notebook's is; on the terminal it is only noise.
        client = _Client(
            nb_man,
            kernel_name=kernel_name,
            timeout=None,
            startup_timeout=options.get("start_timeout", 60),
            extra_arguments=["--IPKernelApp.log_level=ERROR"],
            resources={"metadata": {"path": execution.workdir}},
        )
        client.execution = execution

        def starting(cell: NotebookNode, cell_index: int) -> None:
            del cell_index
            if execution.is_given_up:
                raise GivenUpError
            execution.cell_begins(cell)

        client.on_cell_start = starting
        execution.begins(client)
        client.execute()


papermill_engines.register(NAME, _Engine)

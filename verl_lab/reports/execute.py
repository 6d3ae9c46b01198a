"""Run a notebook headless, with its progress on the terminal."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, cast

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat.reader import NotJSONError

from verl_lab.errors import InvalidInputError, NotFoundError

if TYPE_CHECKING:
    from pathlib import Path

    from nbformat import NotebookNode

    from verl_lab.reports.terminal import Terminal

_WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


class _SpeakingClient(NotebookClient):
    """Tells what cells print while they run; nbclient itself is silent until the end."""

    terminal: Terminal

    def process_message(self, msg: dict[str, Any], cell: NotebookNode, cell_index: int) -> NotebookNode | None:
        """Pass a kernel's message on to nbclient, and its text to the terminal."""
        content, kind = msg["content"], msg["msg_type"]
        if kind == "stream":
            self.terminal.say(str(content["text"]).rstrip("\n"))
        elif kind == "update_display_data":
            text = str(content["data"].get("text/plain", ""))
            if "\n" not in text:
                self.terminal.update(text)
        return super().process_message(msg, cell, cell_index)


def execute(notebook: Path, *, workdir: Path, terminal: Terminal) -> tuple[NotebookNode, str | None]:
    """Run every cell of a notebook.

    Parameters
    ----------
    notebook
        The notebook's file; it is not changed.
    workdir
        The folder the kernel runs in.
    terminal
        Where progress is told.

    Returns
    -------
    executed : NotebookNode
        With its outputs, widget views taken out: they need a kernel, their pictures do not.
    failure : str or None
        What went wrong in the cell it stopped at; None if all ran.

    Raises
    ------
    NotFoundError, InvalidInputError
        There is no such file, or it is no notebook.
    """
    if not notebook.is_file():
        raise NotFoundError(f"notebook: there is no file {notebook}.", "Give the path of an .ipynb file.")
    try:
        executed = _read(notebook)
    except (NotJSONError, nbformat.ValidationError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"notebook: {notebook} is no notebook: {error}", "Give an .ipynb file.") from error
    begun = time.monotonic()
    # ipykernel warns that loopback is not encrypted, as every notebook's is; on the terminal it is only noise.
    quiet = ["--IPKernelApp.log_level=ERROR"]
    resources = {"metadata": {"path": str(workdir)}}
    client = _SpeakingClient(executed, timeout=None, resources=resources, extra_arguments=quiet)
    client.terminal = terminal
    total = sum(1 for cell in executed.cells if cell.cell_type == "code")
    done = 0

    def starting(cell: NotebookNode, cell_index: int) -> None:
        nonlocal done
        del cell_index
        if cell.cell_type == "code":
            done += 1
            first = next((line for line in str(cell.source).splitlines() if line.strip()), "")
            terminal.say(f"[{time.monotonic() - begun:4.0f} s] cell {done} of {total}: {first[:90]}")

    client.on_cell_start = starting
    failure: str | None = None
    try:
        asyncio.run(client.async_execute())
    except CellExecutionError as error:
        failure = f"{error.ename}: {error.evalue}"
    return still(executed), failure


def _read(notebook: Path) -> NotebookNode:
    return cast("Any", nbformat).read(notebook, as_version=4)


def still(notebook: NotebookNode) -> NotebookNode:
    """Take live widgets and their saved state out of a notebook; the pictures beside them stay."""
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        outputs = cell.get("outputs", [])
        has_picture = any("image/png" in output.get("data", {}) for output in outputs)
        for output in [o for o in outputs if _WIDGET_VIEW in o.get("data", {})]:
            if has_picture or len(output.data) == 1:
                outputs.remove(output)
            else:
                del output.data[_WIDGET_VIEW]
    return notebook

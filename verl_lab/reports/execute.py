"""Run a notebook headless, with its progress on the terminal."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from verl_lab.errors import InvalidInputError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nbformat import NotebookNode

_WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


class _SpeakingClient(NotebookClient):
    """Tells what cells print while they run; nbclient itself is silent until the end."""

    say: Callable[[str], None]

    def process_message(self, msg: dict[str, Any], cell: NotebookNode, cell_index: int) -> NotebookNode | None:
        """Pass a kernel's message on to nbclient, and its text to the terminal."""
        content, kind = msg["content"], msg["msg_type"]
        if kind == "stream":
            self.say(str(content["text"]).rstrip("\n"))
        elif kind in ("display_data", "update_display_data") and _WIDGET_VIEW not in content["data"]:
            text = str(content["data"].get("text/plain", ""))
            if text and "\n" not in text and not text.startswith("<"):
                self.say(text)
        return super().process_message(msg, cell, cell_index)


def execute(notebook: Path, *, workdir: Path, say: Callable[[str], None]) -> tuple[NotebookNode, str | None]:
    """Run every cell of a notebook.

    Parameters
    ----------
    notebook
        The notebook's file; it is not changed.
    workdir
        The folder the kernel runs in.
    say
        Called with each line of progress.

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
        executed = nbformat.read(notebook, as_version=4)
    except (nbformat.reader.NotJSONError, nbformat.ValidationError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"notebook: {notebook} is no notebook: {error}", "Give an .ipynb file.") from error
    begun = time.monotonic()
    client = _SpeakingClient(executed, timeout=None, resources={"metadata": {"path": str(workdir)}})
    client.say = say
    total = sum(1 for cell in executed.cells if cell.cell_type == "code")
    done = 0

    def starting(cell: NotebookNode, cell_index: int) -> None:
        nonlocal done
        del cell_index
        if cell.cell_type == "code":
            done += 1
            first = next((line for line in str(cell.source).splitlines() if line.strip()), "")
            say(f"[{time.monotonic() - begun:4.0f} s] cell {done} of {total}: {first[:90]}")

    client.on_cell_start = starting
    failure: str | None = None
    try:
        asyncio.run(client.async_execute())
    except CellExecutionError as error:
        failure = f"{error.ename}: {error.evalue}"
    return still(executed), failure


def still(notebook: NotebookNode) -> NotebookNode:
    """Take widget views and their saved state out of a notebook; what stands beside them shows then."""
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if len(data) > 1:
                data.pop(_WIDGET_VIEW, None)
    return notebook

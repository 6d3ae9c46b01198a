"""Run a notebook headless, with its progress told while it runs."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Any, cast

import nbformat
from jupyter_core.utils import ensure_event_loop
from nbformat.reader import NotJSONError
from papermill.exceptions import PapermillExecutionError
from papermill.execute import ERROR_MARKER_TAG, execute_notebook  # pyright: ignore[reportUnknownVariableType]

from verl_lab.errors import EnvironmentMismatchError, InvalidInputError, NotFoundError
from verl_lab.reports import engine

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from nbformat import NotebookNode

_WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
_PATIENCE_S = 10.0


def execute(
    notebook: Path,
    *,
    workdir: Path,
    say: Callable[[str], object],
    update: Callable[[str], object] | None = None,
    parameters: Mapping[str, Any] | None = None,
) -> tuple[NotebookNode, str | None]:
    """Run every cell of a notebook in a kernel of its own; an interrupt ends the kernel too.

    Parameters
    ----------
    notebook
        The notebook's file; it is not changed.
    workdir
        The folder the kernel runs in.
    say, update
        Called with lines on the progress, and with one that replaces the one before.
    parameters
        What the cell tagged ``parameters`` is to be overruled with.

    Returns
    -------
    executed : NotebookNode
        With its outputs, widget views taken out: they need a kernel, their pictures do not.
    failure : str or None
        Which cell it stopped at, and what went wrong in it; None if all ran.

    Raises
    ------
    NotFoundError, InvalidInputError
        There is no such file, or it is no notebook.
    EnvironmentMismatchError
        The kernel died or did not start.
    """
    read = _read(notebook)
    for cell in read.cells:
        cell.metadata.pop("papermill", None)
    heard: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
    running = engine.Execution(
        lambda text: heard.put(lambda: say(text)),
        lambda text: heard.put(lambda: update and update(text)),
        str(workdir),
    )
    failed = _in_a_thread(running, heard, read, dict(parameters or {}))
    executed = running.notebook
    if executed is None or (failed is not None and not isinstance(failed, PapermillExecutionError)):
        raise EnvironmentMismatchError(
            f"The notebook's kernel ended or did not start: {failed!r}", "See that ipykernel works: jupyter console."
        ) from failed
    kept = still(executed)
    return kept, None if failed is None else _failure(kept, failed)


class _AllHeard(Exception):  # noqa: N818  no error: nothing more comes
    pass


def _in_a_thread(
    running: engine.Execution,
    heard: queue.SimpleQueue[Callable[[], object]],
    notebook: NotebookNode,
    parameters: dict[str, Any],
) -> BaseException | None:
    """Execute beside whatever event loop this thread has, and tell here what is heard; return what was raised."""
    raised: list[BaseException] = []

    def end() -> None:
        raise _AllHeard

    def work() -> None:
        loop = ensure_event_loop()  # the one that all of Jupyter uses in this thread, and leaves open
        try:
            execute_notebook(
                notebook,
                None,
                parameters,
                engine_name=engine.NAME,
                kernel_name=None if "kernelspec" in notebook.metadata else "python3",
                language=None if "kernelspec" in notebook.metadata else "python",
                progress_bar=False,
                execution=running,
            )
        except BaseException as error:  # noqa: BLE001  it is told by the thread that waits
            raised.append(error)
        finally:
            loop.close()
            heard.put(end)

    thread = threading.Thread(target=work, name="verl-lab report", daemon=True)
    thread.start()
    try:
        while True:
            heard.get()()
    except _AllHeard:
        thread.join()
    except BaseException:
        running.give_up()
        thread.join(_PATIENCE_S)
        raise
    return raised[0] if raised else None


def _failure(executed: NotebookNode, failed: PapermillExecutionError) -> str:
    place: int = failed.cell_index  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
    codes = [index for index, cell in enumerate(executed.cells) if cell.cell_type == "code"]
    source: str = failed.source  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
    first = next((line for line in source.splitlines() if line.strip()), "")
    number = codes.index(place) + 1 if place in codes else failed.exec_count
    return f"cell {number} of {len(codes)} ({first[:80]}): {failed.ename}: {failed.evalue}"


def _read(notebook: Path) -> NotebookNode:
    if not notebook.is_file():
        raise NotFoundError(f"notebook: there is no file {notebook}.", "Give the path of an .ipynb file.")
    try:
        return cast("Any", nbformat).read(notebook, as_version=4)
    except (NotJSONError, nbformat.ValidationError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"notebook: {notebook} is no notebook: {error}", "Give an .ipynb file.") from error


def still(notebook: NotebookNode) -> NotebookNode:
    """Take live widgets, their saved state and papermill's notes out of a notebook; the pictures stay."""
    notebook.cells = [cell for cell in notebook.cells if ERROR_MARKER_TAG not in cell.metadata.get("tags", [])]
    for name in ("widgets", "papermill"):
        notebook.metadata.pop(name, None)
    for cell in notebook.cells:
        cell.metadata.pop("papermill", None)
        outputs = cell.get("outputs", [])
        has_picture = any("image/png" in output.get("data", {}) for output in outputs)
        for output in [o for o in outputs if _WIDGET_VIEW in o.get("data", {})]:
            if has_picture or len(output.data) == 1:
                outputs.remove(output)
            else:
                del output.data[_WIDGET_VIEW]
    return notebook

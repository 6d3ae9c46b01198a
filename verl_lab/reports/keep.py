"""Putting an executed notebook where a person finds it: whole, or not at all."""

from __future__ import annotations

import errno
import os
import secrets
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import nbformat

from verl_lab.errors import InvalidInputError, NoSpaceError, VerlLabError
from verl_lab.reports.page import to_html
from verl_lab.reports.pdf import print_pdf

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    from nbformat import NotebookNode

FORMATS = ("ipynb", "html", "pdf")
_FULL = (errno.ENOSPC, errno.EDQUOT)


def open_folder(folder: Path) -> None:
    """Make a folder, and see that files can be written there: a report takes a while, and is then not to be lost.

    Raises
    ------
    InvalidInputError, NoSpaceError
        They cannot.
    """
    with _told(folder):
        folder.mkdir(parents=True, exist_ok=True)
        probe = _beside(folder / "probe")
        try:
            probe.write_bytes(b"\0")
        finally:
            with suppress(OSError):
                probe.unlink(missing_ok=True)


def free_stem(folder: Path, stem: str) -> str:
    """Return a name that no report in the folder has: an earlier one may have been edited."""
    taken = {path.stem for kind in FORMATS for path in folder.glob(f"*.{kind}")}
    return next(name for k in range(1, len(taken) + 2) if (name := stem if k == 1 else f"{stem}-{k}") not in taken)


def keep(
    notebook: NotebookNode, folder: Path, stem: str, *, title: str, formats: Sequence[str] = FORMATS[:2]
) -> dict[str, Path]:
    """Write a notebook in some formats; all of them are there in the end, or none.

    Parameters
    ----------
    notebook
        Executed.
    folder, stem
        Where, and the files' name without what it ends in; a file that is there is replaced.
    title
        What the page's tab says.
    formats
        Some of ``FORMATS``.

    Returns
    -------
    dict of str to Path
        The files, by format.

    Raises
    ------
    InvalidInputError, NoSpaceError
        They cannot be written.
    EnvironmentMismatchError
        There is no browser to print a PDF.
    """
    final = {kind: folder / f"{stem}.{kind}" for kind in FORMATS if kind in formats}
    partial = {kind: _beside(path) for kind, path in final.items()}
    page = partial.get("html", _beside(folder / f"{stem}.html"))
    try:
        with _told(folder):
            if "ipynb" in final:
                partial["ipynb"].write_text(nbformat.writes(notebook), encoding="utf-8")
            if "html" in final or "pdf" in final:
                page.write_text(to_html(notebook, title), encoding="utf-8")
            if "pdf" in final:
                print_pdf(page, partial["pdf"])
            for kind, path in final.items():
                partial[kind].replace(path)
    finally:
        for path in (*partial.values(), page):
            with suppress(OSError):
                path.unlink(missing_ok=True)
    return final


def _beside(path: Path) -> Path:
    """Return the hidden name that a file has until it is whole; what it ends in says what it is to a browser."""
    return path.with_name(f".{path.stem}-{os.getpid()}-{secrets.token_hex(3)}.partial{path.suffix}")


@contextmanager
def _told(folder: Path) -> Generator[None]:
    try:
        yield
    except VerlLabError:  # some are OSErrors themselves
        raise
    except OSError as error:
        if isinstance(error, (FileExistsError, NotADirectoryError)):
            raise InvalidInputError(f"to: {folder} is no folder.", "Give a folder of yours.") from error
        if error.errno in _FULL:
            raise NoSpaceError(f"to: there is no room for a report in {folder}.", "Give another folder.") from error
        raise InvalidInputError(
            f"to: {folder} cannot be written to: {error.strerror}.", "Give a folder of yours."
        ) from error

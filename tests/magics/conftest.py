"""A real IPython shell with the extension loaded."""

from __future__ import annotations

import atexit
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell

from verl_lab.magics.line import MagicError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass(frozen=True)
class Answer:
    """What one cell printed, gave, and raised."""

    printed: str
    result: object
    error: BaseException | None

    @property
    def told(self) -> str:
        """The message shown in place of a traceback."""
        assert isinstance(self.error, MagicError), self.error
        return str(self.error)


class Shell:
    """One IPython shell."""

    def __init__(self, shell: InteractiveShell, capture: pytest.CaptureFixture[str]) -> None:
        self.shell = shell
        self._capture = capture

    def run(self, cell: str) -> Answer:
        """Run a cell as a user would."""
        self._capture.readouterr()
        outcome = self.shell.run_cell(cell, store_history=True)
        heard = self._capture.readouterr()
        return Answer(heard.out + heard.err, outcome.result, outcome.error_before_exec or outcome.error_in_exec)

    def complete(self, text: str) -> list[str]:
        """Return what Tab offers at the end of ``text``."""
        with provisionalcompleter():
            offered = list(self.shell.Completer.completions(text, len(text)))
        return [text[: c.start] + c.text for c in offered]


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Shell]:
    """Return a shell whose lab lives in a folder of its own."""
    monkeypatch.setenv("VERL_LAB_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.chdir(tmp_path)
    made = InteractiveShell()
    history = made.history_manager
    assert history is not None
    history.enabled = False
    made.run_line_magic("load_ext", "verl_lab")
    yield Shell(made, capsys)
    made.run_line_magic("unload_ext", "verl_lab")
    history.end_session()
    # What it would do when the process ends, once for each shell and over a heap of a gigabyte, is done above.
    atexit.unregister(made.atexit_operations)

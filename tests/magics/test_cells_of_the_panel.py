"""The lines that the side panel writes are read by IPython as just the words they were written from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from IPython.core.magic import Magics, line_magic, magics_class

from verl_lab.magics.line import argument, arguments

if TYPE_CHECKING:
    import argparse

CELLS = json.loads((Path(__file__).parents[2] / "labextension" / "tests" / "cells.json").read_text("utf-8"))


@magics_class
class Words(Magics):
    """Keeps the words it was given."""

    read: list[str] | None = None

    @line_magic
    @arguments("verl_train", "Keep words.", argument("words", nargs="*"))
    def verl_train(self, args: argparse.Namespace) -> None:
        """Keep the words."""
        self.read = args.words


@pytest.mark.parametrize(("words", "line"), CELLS["lines"], ids=lambda one: None if isinstance(one, list) else one)
def test_a_line_is_read_as_its_words(shell: Any, words: list[str], line: str) -> None:
    kept = Words(shell.shell)
    shell.shell.register_magics(kept)
    shell.shell.user_ns.update({"x": "expanded", "HOME": "expanded", "y": "expanded"})
    assert shell.run(line).error is None
    assert kept.read == words

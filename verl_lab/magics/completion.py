"""Completion in ``%verl_…`` lines: recipes, runs, metrics, and verl's configuration keys."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, cast

from IPython.core.completer import (
    CompletionContext,
    SimpleCompletion,
    SimpleMatcherResult,
    context_matcher,  # pyright: ignore[reportUnknownVariableType]
)

from verl_lab.diagnostics import RULES
from verl_lab.errors import VerlLabError
from verl_lab.magics import hosts
from verl_lab.recipes.schema import schema_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from verl_lab.lab import Lab
    from verl_lab.magics.family import VerlMagics

_RUN_FIRST = ("verl_stop", "verl_resume", "verl_logs", "verl_watch", "verl_health", "verl_diagnose")
_RUNS = ("verl_compare", "verl_report")
_RUNS_AND_RECIPES = ("verl_diff", "verl_lineage", "verl_recommend")
_NAMED: dict[str, Callable[[Lab, list[str]], list[str] | None]] = {
    "verl_train": lambda lab, before: None if before else lab.recipes.names(),
    "verl_recipes": lambda lab, before: None if before else lab.recipes.names(),
    "verl_recipe": lambda lab, before: None if before else lab.recipes.names(),
    "verl_data": lambda lab, before: None if before else [n for one in lab.datasets.list() for n in one.names],
    "verl_hosts": hosts.offered,
    "verl_env": lambda lab, before: None if before else list(lab.hosts.names()),
}
_OF_OPTION: dict[str, Callable[[Lab], list[str]]] = {
    "--from": lambda lab: [run.id for run in lab.runs()],
    "--baseline": lambda lab: [run.id for run in lab.runs()],
    "--diff": lambda lab: [run.id for run in lab.runs()],
    "--host": lambda lab: list(lab.hosts.names()),
}
_MOST = 200


class Completion:
    """Completes what stands at the cursor of a magic's line, or of a ``%%verl_train`` cell."""

    def __init__(self, magics: VerlMagics) -> None:
        self._magics = magics
        self.matcher = self._matcher()

    def complete(self, text: str) -> list[str] | None:
        """Return what the last word of ``text`` (all up to the cursor) may become; None if it is not ours."""
        cell = re.match(r"\s*%%verl_train([^\n]*)\n", text)
        if cell:
            line = text.rsplit("\n", 1)[-1]
            return None if "=" in line else self._keys(cell.group(1), line.strip())
        line = text.rsplit("\n", 1)[-1]
        found = re.search(r"%%?(verl_\w+)\s+(.*)$", line)
        if not found:
            return None
        magic, rest = found.groups()
        words = rest.split()
        word = "" if not rest or rest[-1].isspace() else words.pop()
        try:
            return self._words(magic, words, word)
        except VerlLabError:
            return None  # completion is a courtesy: an environment that cannot answer offers nothing

    def _words(self, magic: str, before: list[str], word: str) -> list[str] | None:
        parser = getattr(getattr(type(self._magics), magic, None), "parser", None)
        option = next((w for w in reversed(before) if w.startswith("--")), None)
        first = before[0] if before else ""
        offered: list[str] | None = None
        if parser is None:
            return None
        if word.startswith("-"):
            offered = [flag for flag in parser.flags if flag.startswith("--")]
        elif magic == "verl_backtest" and option is None:
            offered = [rule.id for rule in RULES]
        elif magic == "verl_train" and option in ("--set", "--matrix"):
            return None if "=" in word else self._keys(first, word)
        elif option == "--metrics" and first:
            offered = self._magics.lab.run(first).metric_names()
        elif magic in _NAMED and option is None:
            offered = _NAMED[magic](self._magics.lab, before)
        elif option in _OF_OPTION:
            offered = _OF_OPTION[option](self._magics.lab)
        elif magic in _RUNS_AND_RECIPES and option is None and "/" not in word:
            runs = [] if magic == "verl_recommend" else [run.id for run in self._magics.lab.runs()]
            offered = [*self._magics.lab.recipes.names(), *runs]
        elif (magic in _RUNS or (not before and magic in _RUN_FIRST)) and option is None and "/" not in word:
            runs = self._magics.lab.runs()
            offered = [r.id for r in runs] + sorted({r.name for r in runs})
        return None if offered is None else [name for name in offered if name.startswith(word)]

    def _keys(self, line: str, word: str) -> list[str]:
        recipe = next(iter(line.split()), "")
        trainer = self._magics.lab.recipes.get(recipe).trainer
        return [f"{key}=" for key in schema_of(trainer).complete(word)]

    def _matcher(self) -> Callable[[CompletionContext], SimpleMatcherResult]:
        def verl_lab_matcher(context: CompletionContext) -> SimpleMatcherResult:
            lines = context.full_text.split("\n")
            before = "\n".join([*lines[: context.cursor_line], context.line_with_cursor[: context.cursor_position]])
            found = self.complete(before)
            if found is None:
                return SimpleMatcherResult(completions=[])
            # IPython splits words at "=" and "-", and replaces only the part after its own split.
            word = re.split(r"\s", before)[-1]
            skip = len(word) - len(context.token) if word.endswith(context.token) else 0
            offered = [SimpleCompletion(text=f[skip:], type="verl") for f in found[:_MOST]]
            return SimpleMatcherResult(completions=offered, suppress=True)

        return cast("Any", context_matcher)()(verl_lab_matcher)

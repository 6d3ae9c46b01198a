"""The parts of a path that name something, checked before anything is looked up."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from verl_lab.domain.host import NAME as HOST_NAME
from verl_lab.domain.recipe import LONGEST_NAME, NAME
from verl_lab.domain.run import check_run_id
from verl_lab.errors import InvalidInputError
from verl_lab.inputs import Shape, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_LONGEST_NAME = 255  # of a file, in bytes
_RECIPE = Shape(re.compile(NAME), LONGEST_NAME, "The name of a recipe is made of letters, digits, '.', '_' and '-'.")
_HASH = Shape(re.compile(r"[0-9a-f]{6,64}"), 64, "It is a data set's hash, or six or more digits of its beginning.")
_TASK = Shape(re.compile(r"[0-9a-f]{16}"), 16, "It is what a setup was answered with.")
_THING = Shape(re.compile(r"[^\x00-\x1f\x7f/]+"), 300, "It is the name, id or hash of a run, recipe or data set.")


def _thing(text: str) -> str:
    if len(text.encode("utf-8", "surrogatepass")) > _LONGEST_NAME:  # it may be looked for as a file as well
        raise InvalidInputError(f"thing: {shown(text)} will not do.", _THING.valid)
    return _THING.check("thing", text)


_CHECKS: Mapping[str, Callable[[str], str]] = {
    "run": check_run_id,
    "recipe": lambda text: _RECIPE.check("recipe", text),
    "host": lambda text: HOST_NAME.check("host", text),
    "data": lambda text: _HASH.check("hash", text),
    "task": lambda text: _TASK.check("task", text),
    "thing": _thing,
}


def check_part(name: str, text: str) -> str:
    """Return a part of a path if it is what its name says.

    Raises
    ------
    InvalidInputError
        It is not; the message names it.
    """
    return _CHECKS[name](text)

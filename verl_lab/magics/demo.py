"""``%verl_demo``: something to train at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verl_lab.magics.line import MagicError
from verl_lab.magics.report import Told

if TYPE_CHECKING:
    from verl_lab.lab import Lab
    from verl_lab.lab.demo import Demo


def make_demo(lab: Lab) -> Demo:
    """Make the demo, with one line in the cell that says how far it is."""
    told = Told()
    try:
        made = lab.demo(told.say)
    except KeyboardInterrupt:
        told.say("Interrupted: nothing is half made.")
        raise MagicError("Interrupted. %verl_demo makes what is missing.") from None
    told.say("The demo is there.")
    return made

"""``%verl_…``: a line is parsed, one method of ``Lab`` or ``Run`` is called, its result is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verl_lab.magics.completion import Completion
from verl_lab.magics.family import VerlMagics

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

_LOADED = "_verl_lab_magics"


def load(shell: InteractiveShell) -> None:
    """Register the magics and their completion; loading again changes nothing."""
    if getattr(shell, _LOADED, None) is not None:
        return
    magics = VerlMagics(shell)
    shell.register_magics(magics)
    completion = Completion(magics)
    shell.Completer.custom_matchers.append(completion.matcher)
    setattr(shell, _LOADED, (magics, completion))


def unload(shell: InteractiveShell) -> None:
    """Take the magics back and end the reader they started; training goes on."""
    loaded = getattr(shell, _LOADED, None)
    if loaded is None:
        return
    magics, completion = loaded
    if completion.matcher in shell.Completer.custom_matchers:
        shell.Completer.custom_matchers.remove(completion.matcher)
    for kind, names in magics.magics.items():
        for name in names:
            shell.magics_manager.magics[kind].pop(name, None)
    magics.close()
    setattr(shell, _LOADED, None)

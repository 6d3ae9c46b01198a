"""The user's own modules on their way into a run: recorded, and laid beside it where it trains on another machine."""

from __future__ import annotations

import json
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from verl_lab.domain.wire import RunLayout
from verl_lab.errors import TransportError
from verl_lab.lab.comparing.origins import hash_of_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from verl_lab.domain.recipe import Problem
    from verl_lab.recipes.imports import UserCode
    from verl_lab.transport.base import Host

_ANSWER_S = 60.0
# Not the folder in which it happens to run: training runs in another one.
_MISSING = """
import importlib.util, json, sys
sys.path[:] = [place for place in sys.path if place]
def is_there(name):
    try:
        return importlib.util.find_spec(name) is not None
    except ValueError:
        return True
print(json.dumps([name for name in sys.argv[1:] if not is_there(name)]))
"""


def records_of(code: UserCode) -> list[dict[str, Any]]:
    """Return what ``run.json`` says of the user's modules: each with its file here and the hash of its bytes."""
    return [
        {"module": one.name, "path": str(one.path), "hash": hash_of_bytes(one.content), "size": len(one.content)}
        for one in code.modules
    ]


def code_problems(code: UserCode, host: Host, python: str) -> list[Problem]:
    """Return what keeps the code from running on a host as it does here; what is missing there is named.

    Parameters
    ----------
    python
        The one that trains there.

    Raises
    ------
    TransportError
        The host was not reached, or did not answer.
    """
    found = list(code.problems)
    missing = _missing(host, python, code.others)
    for name, wanted in code.others.items():
        if name in missing and not wanted.is_optional:
            fix = (
                f"Put it into the folder that you launch from, so that it is sent, or install it there: {python} -m pip"
                " install …"
            )
            found.append(wanted.problem(f"which {host.name} does not have", fix))
    return found


def lay_code(host: Host, folder: str, code: UserCode) -> str:
    """Write the user's modules into the folder of a run on another machine; return the folder to train in.

    They are a part of the run: it goes on with them whatever becomes of them here.
    """
    root = RunLayout(PurePosixPath(folder)).code
    for place in {root, *((root / one.inside).parent for one in code.modules)}:
        host.make_folder(str(place))
    for one in code.modules:
        host.write_new(str(root / one.inside), one.content)
    return str(root)


def _missing(host: Host, python: str, names: Iterable[str]) -> set[str]:
    """Return which of some top-level modules a Python does not find; none of them is imported."""
    asked = sorted(names)
    if not asked:
        return set()
    done = host.run([python, "-c", _MISSING, *asked], timeout_s=_ANSWER_S)
    try:
        return set(json.loads(done.stdout))
    except (ValueError, TypeError) as error:
        said = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise TransportError(f"{host.name}: {python} does not say what it can import: {said}.") from error

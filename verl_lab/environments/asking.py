"""Asking a host by small programs of ours, which are sent as text and answer in JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from verl_lab.domain.host import LOCAL
from verl_lab.errors import TransportError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from verl_lab.transport.base import Host

FAR = Path(__file__).parent / "far"
# The text comes as an argument; from the folder that the command happens to run in, nothing is imported.
_RUN = "import sys; sys.path[:] = filter(None, sys.path); exec(compile(sys.argv.pop(1), 'verl-lab', 'exec'))"


def usual_python(host: Host) -> str:
    """Return the Python that answers small questions where the user named none."""
    return sys.executable if host.name == LOCAL else "python3"


def argv_of(python: str, program: Path, *words: str, options: Sequence[str] = ()) -> list[str]:
    """Return the command that runs a program's text by a Python on any machine."""
    return [python, *options, "-X", "utf8", "-c", _RUN, program.read_text(encoding="utf-8"), *words]


def answer_of(host: Host, python: str | None, name: str, words: Sequence[str], timeout_s: float) -> Any:
    """Run one of the programs in ``far/`` on a host, and return what it answered.

    Raises
    ------
    TransportError
        It failed there, or the host does not answer.
    """
    argv = argv_of(python or usual_python(host), FAR / f"{name}.py", *words, options=["-I"])
    done = host.run(argv, timeout_s=timeout_s)
    if done.exit_code != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or [f"exit code {done.exit_code}"]
        raise TransportError(f"{host.name} could not be asked ({name}): {said[0]}")
    lines = done.stdout.decode(errors="replace").splitlines()
    return json.loads(lines[-1]) if lines else None

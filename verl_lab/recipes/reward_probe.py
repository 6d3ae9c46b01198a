"""Calls a reward function as verl does, in a process of its own. Run as a file, with the standard library alone.

``python reward_probe.py ANSWER`` reads the request as JSON from its standard input and writes what came of it as
JSON into the file ANSWER; what the function prints goes where it wants.
"""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any


def describe(error: BaseException, file: str) -> dict[str, Any]:
    """Return an exception with the last line of the user's file that it came through."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    found: dict[str, Any] = {"error": f"{type(error).__name__}: {error}"[:500], "line": lines[-1] if lines else None}
    if isinstance(error, ModuleNotFoundError):
        found["module"] = error.name
    return found


def score_of(result: Any) -> Any:
    """Return what verl takes as the score."""
    return result.get("score") if hasattr(result, "get") else result


def probe(request: dict[str, Any]) -> dict[str, Any]:
    """Import the file, call the function with each set of arguments, and judge what it returns."""
    file, name = request["path"], request["name"]
    try:
        spec = importlib.util.spec_from_file_location("custom_module", file)
        if spec is None or spec.loader is None:
            return {"stage": "import", "error": "it is no Python file", "line": None}
        module = importlib.util.module_from_spec(spec)
        sys.modules["custom_module"] = module
        spec.loader.exec_module(module)
        function = getattr(module, name)
    except BaseException as error:  # noqa: BLE001  the user's code may raise anything, SystemExit too
        return {"stage": "import", **describe(error, file)}
    for number, arguments in enumerate(request["calls"]):
        try:
            result = function(**arguments)
            if inspect.isawaitable(result):
                result = asyncio.run(_awaited(result))
        except BaseException as error:  # noqa: BLE001  as above
            return {"stage": "call", "call": number, **describe(error, file)}
        try:
            float(score_of(result))
        except (TypeError, ValueError):
            what = (
                f"a dictionary without a number under 'score': {result!r}" if isinstance(result, dict) else repr(result)
            )
            return {"stage": "result", "call": number, "error": what[:200], "line": None}
    return {"stage": "done"}


async def _awaited(result: Any) -> Any:
    return await result


if __name__ == "__main__":
    # As in training, the folder it was started from is searched for modules, and this file's folder is not.
    sys.path[0] = os.getcwd()  # noqa: PTH109  as Python itself writes it
    answer = probe(json.load(sys.stdin))
    Path(sys.argv[1]).write_text(json.dumps(answer))
    sys.stdout.flush()
    os._exit(0)  # threads that the user's code left behind are not waited for

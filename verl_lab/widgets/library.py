"""The drawing library's JavaScript, from the plotly package that is installed here."""

from __future__ import annotations

import gzip
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from verl_lab.errors import EnvironmentMismatchError


@cache
def plotly_js_gz() -> bytes:
    """Return ``plotly.min.js`` compressed with gzip, about 1.5 MB; read once a process.

    The package is found, not imported: importing it costs a second and registers renderers.

    Raises
    ------
    EnvironmentMismatchError
        If plotly is not installed or does not bring the file.
    """
    spec = find_spec("plotly")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        script = Path(folder) / "package_data" / "plotly.min.js"
        if script.is_file():
            return gzip.compress(script.read_bytes(), compresslevel=6)
    raise EnvironmentMismatchError(
        "The panel draws with plotly.min.js of the plotly package, which is not installed in this kernel.",
        "Install it where this kernel runs: pip install 'plotly>=6'.",
    )

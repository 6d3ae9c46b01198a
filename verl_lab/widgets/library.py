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

    Raises
    ------
    EnvironmentMismatchError
        If plotly is not installed or does not bring the file.
    """
    return gzip.compress(_plotly_js(), compresslevel=6)


@cache
def plotly_module_gz() -> bytes:
    """Return the same as a JavaScript module whose default export is Plotly.

    Raises
    ------
    EnvironmentMismatchError
        If plotly is not installed or does not bring the file.
    """
    # The file is a UMD module: given `module`, it exports there.
    parts = (b"const module = { exports: {} };\n", _plotly_js(), b"\nexport default module.exports;\n")
    return gzip.compress(b"".join(parts), compresslevel=6)


def _plotly_js() -> bytes:
    # The package is found, not imported: importing it costs a second and registers renderers.
    spec = find_spec("plotly")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        script = Path(folder) / "package_data" / "plotly.min.js"
        if script.is_file():
            return script.read_bytes()
    raise EnvironmentMismatchError(
        "The panel draws with plotly.min.js of the plotly package, which is not installed in this kernel.",
        "Install it where this kernel runs: pip install 'plotly>=6'.",
    )

"""The drawing library as a file, which a browser keeps compiled: a page that is loaded again has it at once."""

from __future__ import annotations

import asyncio
import gzip

from jupyter_server.auth.decorator import authorized
from tornado import web

from verl_lab.errors import EnvironmentMismatchError
from verl_lab.server.handler import LabHandler
from verl_lab.widgets.library import plotly_module_gz

_KEPT_S = 86_400


class LibraryHandler(LabHandler):
    """Serves Plotly as a module, kept by the browser for a day, to the pages' own code; no part of the interface."""

    @web.authenticated
    @authorized
    async def get(self, **_parts: str) -> None:
        """Send it, compressed where the browser takes that."""
        try:
            module = await asyncio.get_running_loop().run_in_executor(None, plotly_module_gz)
        except EnvironmentMismatchError as error:
            raise web.HTTPError(404, error.message) from error
        if "gzip" in self.request.headers.get("Accept-Encoding", ""):
            self.set_header("Content-Encoding", "gzip")
        else:
            module = gzip.decompress(module)
        self.set_header("Cache-Control", f"private, max-age={_KEPT_S}")
        self.set_header("Vary", "Accept-Encoding")
        self.finish(module, set_content_type="text/javascript; charset=utf-8")

"""``VerlLabServer``: what jupyter_server loads."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_server.extension.application import ExtensionApp
from traitlets import Float, Int, List, Unicode

from verl_lab.server.handler import handlers_of
from verl_lab.server.library import LibraryHandler
from verl_lab.server.limits import Limits
from verl_lab.server.live import LiveSocket
from verl_lab.server.routes import ROUTES
from verl_lab.server.service import LabService
from verl_lab.server.sockets import SOCKETS

if TYPE_CHECKING:
    from tornado.web import RequestHandler

BASE = "verl-lab/api"
"""Where everything of ours is found below the server's base URL."""


class VerlLabServer(ExtensionApp):
    """verl-lab's server extension: runs, recipes, hosts and data over HTTP, and live over WebSockets."""

    name = "verl_lab"
    extension_url = "/lab"
    load_other_extensions = True
    default_url = "/lab"

    home = Unicode(
        None,
        allow_none=True,
        config=True,
        help="The lab's home: runs, recipes and the index. By default VERL_LAB_HOME, else the user's data folder.",
    )
    threads = Int(8, min=1, config=True, help="How many requests are answered at once.")
    most_waiting = Int(200, min=1, config=True, help="How many requests may wait; more are refused with 429.")
    requests_per_s = Float(100.0, min=0.1, config=True, help="How many requests a second are answered in the long run.")
    burst = Int(300, min=1, config=True, help="How many requests may come at once before they are refused with 429.")
    largest_body_bytes = Int(2**20, min=1, config=True, help="How large the body of a request may be.")
    open_folders = List(
        Unicode(), config=True, help="Folders besides the server's own whose files a page may name as data."
    )
    busy_s = Float(
        5.0, min=0.0, config=True, help="How long a request waits for others that write to the index, before 503."
    )
    most_sockets = Int(200, min=1, config=True, help="How many WebSockets may be open at once.")

    def initialize_settings(self) -> None:
        """Make what all handlers share."""
        self.service = LabService(
            self.home,
            threads=self.threads,
            most_waiting=self.most_waiting,
            busy_s=self.busy_s,
            roots=[Path(folder).expanduser() for folder in (self._root_dir, *self.open_folders)],
        )
        self.settings["verl_lab_service"] = self.service
        self.settings["verl_lab_limits"] = Limits(
            requests_per_s=self.requests_per_s,
            burst=self.burst,
            largest_body_bytes=self.largest_body_bytes,
            most_sockets=self.most_sockets,
        )

    def initialize_handlers(self) -> None:
        """Add every route and socket."""
        sockets: list[tuple[str, type[RequestHandler]]] = [("live", LiveSocket), *SOCKETS]
        found: list[tuple[Any, ...]] = [(f"{BASE}/{path}", handler) for path, handler in sockets]
        found.append((f"{BASE}/library", LibraryHandler, {"routes": {}}))
        self.handlers.extend([*found, *((f"{BASE}/{path}", *rest) for path, *rest in handlers_of(ROUTES))])

    async def stop_extension(self) -> None:
        """Close the lab and end its threads."""
        await asyncio.get_running_loop().run_in_executor(None, self.service.close)

    @property
    def _root_dir(self) -> str:
        return "." if self.serverapp is None else self.serverapp.root_dir

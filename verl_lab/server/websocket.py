"""What every WebSocket of ours shares: who may open it, and how it reaches the lab."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from jupyter_server.auth.decorator import ws_authenticated
from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.base.websocket import WebSocketMixin
from tornado import web
from tornado.websocket import WebSocketHandler

if TYPE_CHECKING:
    from verl_lab.server.limits import Limits
    from verl_lab.server.service import LabService

_POLICY_VIOLATION = 1008
TRY_AGAIN_LATER = 1013


class LabSocket(WebSocketMixin, WebSocketHandler, JupyterHandler):  # pyright: ignore[reportIncompatibleMethodOverride]
    """A WebSocket that only a user of this server can open, from a page of this server.

    A subclass overrides ``opened``, ``on_message`` and ``closed``, and asks the lab by
    ``await self.service.ask(lambda lab: ...)``.
    """

    is_counted = False

    @property
    def service(self) -> LabService:
        """The lab and its threads."""
        return cast("LabService", self.settings["verl_lab_service"])

    @property
    def limits(self) -> Limits:
        """What may be asked of the server at most."""
        return cast("Limits", self.settings["verl_lab_limits"])

    @ws_authenticated
    async def get(self, *args: Any, **kwargs: Any) -> None:
        """Open the socket, or refuse it with 401, 403 or 429."""
        if not self.check_origin():
            raise web.HTTPError(403)
        if self.limits.open_sockets >= self.limits.most_sockets:
            raise web.HTTPError(429)
        await super().get(*args, **kwargs)

    def open(self, *args: Any, **kwargs: Any) -> Any:
        """Count it, and begin."""
        self.limits.open_sockets += 1
        self.is_counted = True
        super().open(*args, **kwargs)
        return self.opened()

    def opened(self) -> Any:
        """Begin; may be a coroutine."""

    def on_close(self) -> None:
        """Count it no more, and end."""
        if self.is_counted:
            self.is_counted = False
            self.limits.open_sockets -= 1
        super().on_close()
        self.closed()

    def closed(self) -> None:
        """End what ``opened`` began."""

    def refuse(self, why: str) -> None:
        """Close because of what the page sent."""
        self.close(_POLICY_VIOLATION, why)

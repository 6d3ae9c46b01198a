"""The one handler behind all routes: who asks, what is asked, and what is answered."""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING, Any, cast

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from pydantic import ValidationError
from tornado import web

from verl_lab.errors import InvalidInputError, StoreBusyError, VerlLabError
from verl_lab.server.encoding import encode
from verl_lab.server.faults import TooManyError, body_of, body_of_input, status_of
from verl_lab.server.parts import check_part

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from verl_lab.lab import Lab
    from verl_lab.server.limits import Limits
    from verl_lab.server.routing import Asked, Method, Route
    from verl_lab.server.service import LabService

_PART = re.compile(r"\{(\w+)\}")
_NO_SUCH_PATH, _NO_SUCH_METHOD, _TOO_LARGE = 404, 405, 413
_BUSY_AGAIN_S = 5
VERSION = "1"


@web.stream_request_body
class LabHandler(APIHandler):
    """Answers the routes of one path."""

    auth_resource = "verl_lab"

    def initialize(self, routes: Mapping[Method, Route]) -> None:
        """Take the routes by method."""
        self._routes = routes
        self._body = bytearray()
        self._is_too_large = False

    @property
    def _service(self) -> LabService:
        return cast("LabService", self.settings["verl_lab_service"])

    @property
    def _limits(self) -> Limits:
        return cast("Limits", self.settings["verl_lab_limits"])

    def set_default_headers(self) -> None:
        """Say which version of the interface answers, and that nothing is to be kept."""
        super().set_default_headers()
        self.set_header("Verl-Lab-Api", VERSION)
        self.set_header("Cache-Control", "no-store")

    async def prepare(self) -> None:
        """Refuse whoever may not ask, and what is too much, before the body is read."""
        try:
            await super().prepare()
        except web.HTTPError as error:
            if error.status_code == 404:  # noqa: PLR2004  what jupyter_server says of another site's page
                raise web.HTTPError(403, "Another site's page asks.") from None
            raise
        # A page of another site can load this without an Origin, as a picture or a script.
        if self.request.headers.get("Sec-Fetch-Site") == "cross-site" and "Origin" not in self.request.headers:
            raise web.HTTPError(403, "Another site's page asks.")
        if self.current_user is None:
            return
        wait_s = self._limits.take()
        if wait_s:
            self.set_header("Retry-After", str(int(wait_s) + 1))
            self._refuse(TooManyError("Too many requests.", "Ask again in a moment."))
            return
        length = self.request.headers.get("Content-Length", "0")
        if length.isdecimal() and int(length) > self._limits.largest_body_bytes:
            self._refuse_size()

    def data_received(self, chunk: bytes) -> None:
        """Take a piece of the body; of one that is too large no more is kept."""
        if len(self._body) + len(chunk) > self._limits.largest_body_bytes:
            self._is_too_large = True
            self._body.clear()
        elif not self._is_too_large:
            self._body += chunk

    @web.authenticated
    @authorized
    async def get(self, **parts: str) -> None:
        """Answer GET."""
        await self._answer("GET", parts)

    @web.authenticated
    @authorized
    async def post(self, **parts: str) -> None:
        """Answer POST."""
        await self._answer("POST", parts)

    @web.authenticated
    @authorized
    async def put(self, **parts: str) -> None:
        """Answer PUT."""
        await self._answer("PUT", parts)

    @web.authenticated
    @authorized
    async def patch(self, **parts: str) -> None:
        """Answer PATCH."""
        await self._answer("PATCH", parts)

    @web.authenticated
    @authorized
    async def delete(self, **parts: str) -> None:
        """Answer DELETE."""
        await self._answer("DELETE", parts)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Say what tornado or jupyter_server refuses, in the form of all errors."""
        error = kwargs.get("exc_info", (None, None))[1]
        reason = error.log_message if isinstance(error, web.HTTPError) and status_code < 500 else None  # noqa: PLR2004
        message = str(reason or self._reason)
        if status_code >= 500:  # noqa: PLR2004  what broke is for the log
            message = self._broken(error)
        self.finish(encode({"message": message, "hint": None, "field": None}))

    async def _answer(self, method: Method, parts: Mapping[str, str]) -> None:
        route = self._routes.get(method)
        if route is None:
            self._refuse_method(method)
            return
        if self._is_too_large:
            self._refuse_size()
            return
        try:
            given: dict[str, Any] = {name: check_part(name, text) for name, text in parts.items()}
            given |= self._taken(route)
            given |= {name: getattr(self._service, name) for name in route.wants}
            content = await self._service.ask(lambda lab: _answered(route, lab, given), is_slow=route.is_slow)
        except ValidationError as error:
            self.set_status(400)
            self.finish(encode(body_of_input(error)))
        except VerlLabError as error:
            self._refuse(error)
        except Exception as error:  # noqa: BLE001  whatever breaks, the page is told so, and the log why
            self.set_status(500)
            self.finish(encode({"message": self._broken(error), "hint": None, "field": None}))
        else:
            self.set_status(route.status)
            self.finish(content)

    def _taken(self, route: Route) -> Iterator[tuple[str, Asked]]:
        """Return what the query and the body hold, checked."""
        query = {name: values[-1].decode("utf-8", "replace") for name, values in self.request.query_arguments.items()}
        query.pop("token", None)  # jupyter_server's own
        query.pop("no_track_activity", None)
        # JupyterLab adds the time to what no cache may answer.
        query = {name: text for name, text in query.items() if text or not name.isdecimal()}
        if route.query is not None:
            yield "query", route.query.model_validate(query)
        elif query:
            raise InvalidInputError(f"{next(iter(query))[:60]}: there is no such parameter.", "It takes none.")
        if route.body is not None:
            yield "body", route.body.model_validate_json(bytes(self._body) or b"{}")

    def _refuse(self, error: VerlLabError) -> None:
        self.set_status(status_of(error))
        if isinstance(error, StoreBusyError):
            self.set_header("Retry-After", str(_BUSY_AGAIN_S))
        given = f"{self.request.uri} {self._body.decode('utf-8', 'replace')}"
        self.finish(encode(body_of(error, given)))

    def _refuse_method(self, method: Method) -> None:
        self.set_status(_NO_SUCH_METHOD if self._routes else _NO_SUCH_PATH)
        if self._routes:
            self.set_header("Allow", ", ".join(self._routes))
        what = f"{method} of it" if self._routes else "address"
        self.finish(
            encode({"message": f"There is no such {what}.", "hint": "GET openapi.json lists all.", "field": None})
        )

    def _refuse_size(self) -> None:
        self.set_status(_TOO_LARGE)
        message = f"The request's body is larger than {self._limits.largest_body_bytes:,} bytes."
        self.finish(encode({"message": message, "hint": None, "field": None}))

    def _broken(self, error: BaseException | None) -> str:
        """Log what went wrong under a number, and return what a person is told."""
        number = secrets.token_hex(4)
        self.log.error("verl-lab %s: %s %s failed.", number, self.request.method, self.request.path, exc_info=error)
        return f"Something went wrong in the server; its log says what, under {number}."


def handlers_of(routes: tuple[Route, ...]) -> list[tuple[str, type[LabHandler], dict[str, Any]]]:
    """Return each path as tornado takes it, its handler, and what that is made with; last, what is none of them."""
    by_path: dict[str, dict[Method, Route]] = {}
    for route in routes:
        by_path.setdefault(route.path, {})[route.method] = route
    paths = {_PART.sub(r"(?P<\1>[^/]+)", path.replace(".", r"\.")): found for path, found in by_path.items()}
    return [(path, LabHandler, {"routes": found}) for path, found in (*paths.items(), (".*", {}))]


def _answered(route: Route, lab: Lab, given: Mapping[str, Any]) -> bytes:
    """Answer, and make JSON of it here, where the event loop does not wait for it."""
    return encode(route.answer(lab, **given))

"""A real Jupyter server with verl-lab's extension, over a lab of its own, and run folders below it."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from api_document import assert_documented
from pytest_jupyter.jupyter_server import *  # noqa: F403  # pyright: ignore[reportWildcardImportFromLibrary]  fixtures
from run_writer import RunWriter
from tornado.httpclient import HTTPClientError
from traitlets.config import Config

from verl_lab.domain.wire import RunLayout

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from typing_extensions import Self

BASE = ("verl-lab", "api")


@dataclass(frozen=True)
class Answer:
    """What a request was answered with."""

    code: int
    body: Any
    headers: dict[str, str]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return the home of the server's lab."""
    return tmp_path / "lab"


@pytest.fixture
def server_options() -> dict[str, Any]:
    """Return traits of the extension that a test sets."""
    return {}


@pytest.fixture
def jp_server_config(home: Path, server_options: dict[str, Any]) -> Config:
    """Load the extension, with a lab of its own."""
    return Config(
        {
            "ServerApp": {"jpserver_extensions": {"verl_lab": True, "jupyter_server_terminals": False}},
            "VerlLabServer": {"home": str(home), **server_options},
        }
    )


@pytest.fixture
def ask(jp_fetch: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Answer]]:
    """Return what asks a route, such as ``await ask("GET", "runs", limit=5)``; errors are answers too.

    Whatever is answered has to be as the API's document says.
    """

    async def send(method: str, path: str, body: Any = None, **params: Any) -> Answer:
        content = None if body is None and method not in ("POST", "PUT", "PATCH") else json.dumps(body or {})
        try:
            found = await jp_fetch(
                *BASE, *path.split("/"), method=method, body=content, params=params, request_timeout=120
            )
        except HTTPClientError as error:
            found = error.response
            if found is None:
                raise
        answer = Answer(found.code, json.loads(found.body) if found.body else None, dict(found.headers))
        assert_documented(method, path, answer.code, answer.body)
        return answer

    return send


class Trained(RunWriter):
    """A run that a test lets train."""

    def scores(self, first: int, last: int, value: Callable[[int], float]) -> Self:
        """Log the reward over some steps."""
        return self.steps(first, last, "critic/score/mean", value)

    def end(self, state: str = "completed", step: int = 100) -> Self:
        """End it."""
        return self.status(state, step=step, ended=self.begun + 1000)


@pytest.fixture
def write_run(home: Path) -> Callable[..., Trained]:
    """Return what makes a run folder in the server's lab; later ones are newer."""
    made: list[Trained] = []

    def write(name: str, *, recipe: str = "grpo-cpu") -> Trained:
        run = Trained(RunLayout(home / "runs" / f"20260101-000000-{name}-0000"), time.time() - 1000)
        made.append(run)
        return run.launch(
            name,
            created=1000.0 + len(made),
            config={"trainer": {"test_freq": 10, "save_freq": 10}},
            recipe={"name": recipe, "algorithm": "grpo"},
            algorithm="grpo",
            overrides=["trainer.seed=1"],
            launch={"argv": [], "env": {}, "cwd": "/home/someone/my-project"},
        ).begin()

    return write


@pytest.fixture
def eventually() -> Callable[..., Awaitable[Any]]:
    """Return what asks until an answer will do; the background has its own pace."""

    async def wait(question: Callable[[], Awaitable[Any]], holds: Callable[[Any], bool]) -> Any:
        deadline = time.monotonic() + 60
        while not holds(found := await question()):
            if time.monotonic() > deadline:
                pytest.fail(f"What was awaited did not come; last: {found}")
            await asyncio.sleep(0.1)
        return found

    return wait

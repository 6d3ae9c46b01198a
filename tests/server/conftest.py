"""A real Jupyter server with verl-lab's extension, over a lab of its own, and run folders below it."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from pytest_jupyter.jupyter_server import *  # noqa: F403  # pyright: ignore[reportWildcardImportFromLibrary]  fixtures
from tornado.httpclient import HTTPClientError
from traitlets.config import Config

from verl_lab.domain.wire import EventRecord, Header, RunLayout, encode_event, encode_header, encode_metrics

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

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
    """Return what asks a route, such as ``await ask("GET", "runs", limit=5)``; errors are answers too."""

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
        return Answer(found.code, json.loads(found.body) if found.body else None, dict(found.headers))

    return send


class RunFolder:
    """A run folder as the trainer and the supervisor write it, growing as a test asks."""

    def __init__(self, home: Path, name: str, *, created: float, recipe: str = "grpo-cpu") -> None:
        self.id = f"20260101-000000-{name}-0000"
        self.layout = RunLayout(home / "runs" / self.id)
        self.files = self.layout.attempt(1)
        self._seq = {"m": 0, "e": 0}
        self._begun = time.time() - 1000
        self.files.folder.mkdir(parents=True)
        header = encode_header(Header(self.id, 1, 1, 1, "boot"))
        self.files.metrics.write_bytes(header)
        self.files.events.write_bytes(header)
        self.layout.config.write_text(yaml.safe_dump({"trainer": {"test_freq": 10, "save_freq": 10}}))
        self.layout.command.write_text("python -m verl_lab.verl_plugin.train_ppo\n")
        self.event("train_begin", step=0, total_steps=100, resumed_from=0, platform="cpu")
        self.status("running")
        record: dict[str, Any] = {"version": 1, "run": self.id, "name": name, "created": created}
        record |= {
            "recipe": {"name": recipe, "algorithm": "grpo"},
            "algorithm": "grpo",
            "overrides": ["trainer.seed=1"],
        }
        record |= {"launch": {"argv": [], "env": {}, "cwd": "/home/someone/my-project"}}
        self.layout.record.write_text(json.dumps(record))

    def step(self, step: int, **data: float) -> RunFolder:
        """Log a step; ``critic_score_mean`` is ``critic/score/mean``."""
        named = {name.replace("__", "/"): value for name, value in data.items()}
        line = encode_metrics(self._next("m"), step, self._begun + 10 * step, named)
        with self.files.metrics.open("ab") as file:
            file.write(line)
        return self

    def steps(
        self, first: int, last: int, value: Callable[[int], float], name: str = "critic__score__mean"
    ) -> RunFolder:
        """Log one metric over some steps."""
        for step in range(first, last + 1):
            self.step(step, **{name: value(step)})
        return self

    def event(self, kind: str, *, step: int | None = None, **data: Any) -> None:
        """Record an event."""
        event = EventRecord(self._next("e"), self._begun + 10 * (step or 0), kind, step, "trainer", data)
        with self.files.events.open("ab") as file:
            file.write(encode_event(event))

    def status(self, state: str, **fields: Any) -> RunFolder:
        """Say where it stands; its supervisor beats, as far as anybody can tell."""
        record = {"version": 1, "run": self.id, "attempt": 1, "state": state, "step": None, "total": 100}
        record |= {"phase": "training", "started": self._begun, "updated": time.time() + 3600, **fields}
        partial = self.files.status.with_suffix(".partial")
        partial.write_text(json.dumps(record))
        partial.replace(self.files.status)
        return self

    def end(self, state: str = "completed", step: int = 100) -> RunFolder:
        """End it."""
        return self.status(state, step=step, phase=None, ended=self._begun + 1000)

    def _next(self, kind: str) -> int:
        self._seq[kind] += 1
        return self._seq[kind] - 1


@pytest.fixture
def write_run(home: Path) -> Callable[..., RunFolder]:
    """Return what makes a run folder in the server's lab; later ones are newer."""
    made: list[RunFolder] = []

    def write(name: str, **given: Any) -> RunFolder:
        made.append(RunFolder(home, name, created=1000.0 + len(made), **given))
        return made[-1]

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

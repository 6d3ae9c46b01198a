"""Shared by the tests of the widgets: a real kernel, and the replayed run they show."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from jupyter_client.manager import start_new_kernel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jupyter_client.blocking.client import BlockingKernelClient

HERE = Path(__file__).parent
sys.path.append(str(HERE))


class Kernel:
    """A kernel that runs code and tells what panels sent meanwhile."""

    def __init__(self, client: BlockingKernelClient) -> None:
        self._client = client

    def execute(self, code: str) -> tuple[str, list[dict[str, Any]]]:
        """Run code; return what it printed, and every message published until it had ended."""
        heard: list[dict[str, Any]] = []
        printed: list[str] = []

        def hear(message: dict[str, Any]) -> None:
            heard.append(message)
            if message["msg_type"] == "stream":
                printed.append(message["content"]["text"])
            if message["msg_type"] == "error":
                pytest.fail("\n".join(message["content"]["traceback"]))

        self._client.execute_interactive(code, output_hook=hear, timeout=60)
        return "".join(printed), heard


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """Start a real kernel that can import the replayed run."""
    manager, client = start_new_kernel(kernel_name="python3", cwd=str(tmp_path_factory.mktemp("kernel")))
    try:
        made = Kernel(client)
        made.execute(f"import sys; sys.path.append({str(HERE)!r}); from replay import Replay; from pathlib import Path")
        yield made
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        manager.cleanup_resources()


@pytest.fixture
def eventually() -> Callable[[Callable[[], object]], None]:
    """Return a function that waits until what it is given is true."""

    def wait(holds: Callable[[], object]) -> None:
        deadline = time.monotonic() + 20
        while not holds():
            if time.monotonic() > deadline:
                pytest.fail("What was awaited did not come within 20 s.")
            time.sleep(0.01)

    return wait

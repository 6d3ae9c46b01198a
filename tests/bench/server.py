"""The list of many runs, as the side panel gets it from a real Jupyter server: against a file of the same bytes.

    python tests/bench/server.py [--json] [--runs 1000]

The runs are on disk, and no index of them is there at first: that is made by the first question. Then the list is
asked for again and again, over HTTP and as what the ``live`` socket says first, while 20 of the runs log a step every
one to two seconds. In turns with that, the same server gives the same bytes as a file, which is what any answer costs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from parts.crowd import Crowd
from parts.rows import Row, show
from tornado.httpclient import AsyncHTTPClient
from tornado.websocket import websocket_connect

sys.path.append(str(Path(__file__).parents[1] / "browser"))
from jupyterlab_page import running_lab

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from jupyterlab_page import RunningLab

_ROUNDS = 30
_LIMIT = 5000
_PATIENCE_S = 600


class Asking:
    """Asks a running server, and notes how long its answers take."""

    def __init__(self, lab: RunningLab) -> None:
        self._lab = lab
        self._client = AsyncHTTPClient(force_instance=True, max_body_size=2**28)

    async def get(self, path: str, **params: int) -> bytes:
        """Ask one address."""
        url = f"{self._lab.url}/{path}?{urlencode({**params, 'token': self._lab.token})}"
        return (await self._client.fetch(url, request_timeout=_PATIENCE_S)).body

    async def rows(self) -> bytes:
        """Ask for the list over HTTP."""
        return await self.get("verl-lab/api/runs", limit=_LIMIT)

    async def first_rows(self) -> bytes:
        """Open the ``live`` socket, and take what it says first."""
        url = f"{self._lab.url.replace('http', 'ws', 1)}/verl-lab/api/live?token={self._lab.token}"
        socket = await websocket_connect(url, max_message_size=2**28)
        first = await socket.read_message()
        socket.close()
        return str(first).encode()


async def measure(lab: RunningLab, count: int) -> list[Row]:
    """Ask a server whose lab holds so many runs."""
    asking = Asking(lab)
    start = time.perf_counter()
    rows = json.loads(await asking.rows())["rows"]
    cold_s = time.perf_counter() - start
    assert len(rows) == count
    while any(row["health"] is None or row["spark"] is None for row in rows[:50]):  # judged in the background
        await asyncio.sleep(1)
        rows = json.loads(await asking.rows())["rows"]
    content = await asking.rows()
    (lab.root / "rows.bin").write_bytes(content)
    tasks: dict[str, Callable[[], Awaitable[bytes]]] = {
        "file": lambda: asking.get("files/rows.bin"),
        "http": asking.rows,
        "socket": asking.first_rows,
    }
    taken: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(_ROUNDS):
        for name, task in tasks.items():
            start = time.perf_counter()
            found = await task()
            taken[name].append(time.perf_counter() - start)
            assert len(found) > len(content) / 2, (name, found[:100])
            await asyncio.sleep(0.1)
    file_s, http_s, socket_s = (statistics.median(times) for times in taken.values())
    worst_s = max(*taken["http"], *taken["socket"])

    def told(seconds: float) -> str:
        return f"{seconds / file_s:.1f}x ({seconds * 1e3:.0f} ms, file {file_s * 1e3:.0f} ms)"

    size = f"{len(content) / 1e3:,.0f} kB"
    return [
        Row(f"{count:,} runs, {size}, over HTTP, against a file", told(http_s), "<= 5x", http_s <= 5 * file_s),
        Row("  as what the live socket says first", told(socket_s), "<= 5x", socket_s <= 5 * file_s),
        Row("  the slowest of all", f"{worst_s * 1e3:.0f} ms"),
        Row("  at first, with no index of them", f"{cold_s:.1f} s, {cold_s / count * 1e3:.1f} ms a run"),
    ]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments.add_argument("--runs", type=int, default=1000, help="runs in the lab")
    chosen = arguments.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        running_lab(Path(folder)) as lab,
        Crowd(Path(folder) / "verl_lab_home", chosen.runs),
    ):
        show(asyncio.run(measure(lab, chosen.runs)), as_json=chosen.json)


if __name__ == "__main__":
    main()

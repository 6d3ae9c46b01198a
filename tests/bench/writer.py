"""What training pays: a log call, and what has to be imported; and what a notebook pays for importing.

python tests/bench/writer.py [--json] [--calls 5000]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import orjson
from parts.rows import Row, show
from parts.runs import values

from verl_lab.domain.wire import RunLayout
from verl_lab.verl_plugin.attempt import Attempt
from verl_lab.verl_plugin.writer import EventLog, MetricsWriter

WRITER = "from verl_lab.verl_plugin.writer import MetricsWriter"
# Seconds of the processor: what else runs on the machine does not count.
COST = """
import os, time
def held(): return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
{before}
memory, start = held(), time.process_time()
{code}
print(time.process_time() - start, held() - memory)
"""
LOAD_EXT = """
from IPython.core.interactiveshell import InteractiveShell
InteractiveShell.instance().run_line_magic("load_ext", "verl_lab")
"""
SHELL = "from IPython.core.interactiveshell import InteractiveShell; InteractiveShell.instance()"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments.add_argument("--calls", type=int, default=5000, help="log calls to measure")
    chosen = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = log_calls(Path(folder), chosen.calls)
    show([*rows, *imports()], as_json=chosen.json)


def log_calls(folder: Path, calls: int) -> list[Row]:
    """Log 40 scalars a call, in turns with no more than turning them into JSON and writing that."""
    layout = RunLayout(folder).attempt(1)
    layout.folder.mkdir(parents=True)
    attempt = Attempt(layout, "bench", 1)
    events = EventLog(attempt, "trainer")
    writer = MetricsWriter(attempt, events)
    plain = os.open(folder / "plain.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    limit_ns: list[int] = []
    ours_ns: list[int] = []
    for step, data in enumerate(values(calls), 1):
        start = time.perf_counter_ns()
        os.write(plain, orjson.dumps({"step": step, "data": data}, option=orjson.OPT_APPEND_NEWLINE))
        between = time.perf_counter_ns()
        writer.write(step, data)
        ours_ns.append(time.perf_counter_ns() - between)
        limit_ns.append(between - start)
    writer.close()
    os.close(plain)
    limit, ours = statistics.median(limit_ns) / 1e3, statistics.median(ours_ns) / 1e3
    slow, slow_limit = np.percentile(ours_ns, 99) / 1e3, np.percentile(limit_ns, 99) / 1e3
    return [
        Row(
            "a log call, against orjson + write",
            f"{ours / limit:.2f}x ({ours:.1f} us, limit {limit:.1f} us)",
            "<= 2x",
            ours <= 2 * limit,
        ),
        Row(
            "  the slowest 1 %",
            f"{slow / limit:.1f}x ({slow:.0f} us, of the limit {slow_limit:.0f} us)",
            "<= 10x the limit's median",
            bool(slow <= 10 * limit),
        ),
    ]


def imports() -> list[Row]:
    """Import in fresh processes, in turns."""
    asked = [("", "import orjson"), ("", WRITER), ("import orjson", WRITER), ("", "import verl_lab"), (SHELL, LOAD_EXT)]
    found: list[list[tuple[float, float]]] = [[] for _ in asked]
    for _ in range(15):
        for (before, code), costs in zip(asked, found, strict=True):
            argv = [sys.executable, "-c", COST.format(before=before, code=code)]
            done = subprocess.run(argv, capture_output=True, text=True, check=True)
            seconds, megabytes = done.stdout.split()[-2:]
            costs.append((float(seconds), float(megabytes)))
    limit, writer, beyond, door, extension = ([statistics.median(part) for part in zip(*c, strict=True)] for c in found)
    return [
        Row(
            "the writer's import, against `import orjson`",
            f"{writer[0] / limit[0]:.1f}x ({writer[0] * 1e3:.0f} ms, orjson {limit[0] * 1e3:.0f} ms)",
            "<= 2x",
            writer[0] <= 2 * limit[0],
        ),
        Row("  memory beyond orjson's own", f"{beyond[1]:.1f} MB", "<= 3 MB", beyond[1] <= 3),
        Row("import verl_lab", f"{door[0]:.3f} s", "<= 0.3 s", door[0] <= 0.3),
        Row("%load_ext verl_lab", f"{extension[0]:.2f} s", "<= 1 s", extension[0] <= 1),
    ]


if __name__ == "__main__":
    main()

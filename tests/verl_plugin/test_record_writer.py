"""What was logged is on disk: through kills, full disks and several writers at once."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from verl_lab.domain.wire import AttemptLayout, EventRecord, decode_header, decode_metrics
from verl_lab.verl_plugin.attempt import Attempt
from verl_lab.verl_plugin.writer import EventLog, MetricsWriter

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from pathlib import Path

METRICS = {f"actor/metric_{number}": number / 7 for number in range(40)}

# Logs without end, and says after each call which one has returned.
ENDLESS_WRITER = """
import itertools, os
from verl_lab.verl_plugin.attempt import Attempt
from verl_lab.verl_plugin.writer import EventLog, MetricsWriter
attempt = Attempt.from_environment()
writer = MetricsWriter(attempt, EventLog(attempt, "trainer"))
metrics = {f"actor/metric_{number}": number / 7 for number in range(40)}
for step in itertools.count(1):
    writer.write(step, metrics)
    os.write(1, b"%d\\n" % step)
"""

# Meets a limit on the size of its files, cut so that a record is torn, and goes on when it is lifted.
WRITER_ON_A_FULL_DISK = """
import resource, sys
from verl_lab.verl_plugin.attempt import Attempt
from verl_lab.verl_plugin.writer import EventLog, MetricsWriter
attempt = Attempt.from_environment()
writer = MetricsWriter(attempt, EventLog(attempt, "trainer"))
metrics = {f"actor/metric_{number}": number / 7 for number in range(40)}
_, most = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), most))
for step in range(1, 21):
    writer.write(step, metrics)
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
for step in range(21, 26):
    writer.write(step, metrics)
writer.close()
"""

EVENT_WRITER = """
import sys
from verl_lab.verl_plugin.attempt import Attempt
from verl_lab.verl_plugin.writer import EventLog
events = EventLog(Attempt.from_environment(), sys.argv[1])
for number in range(200):
    assert events.emit("validation_end", step=number, text="x" * (number % 50))
"""


def steps_on_disk(attempt: Attempt) -> list[int]:
    """Return the steps of all complete and readable lines."""
    _, *lines = attempt.layout.metrics.read_bytes().split(b"\n")[:-1]
    return [decode_metrics(line).step for line in lines]


def test_kill_loses_no_log_call_that_returned(
    tmp_path: Path,
    attempt_environment: dict[str, str],
    rounds: Callable[[int], int],
    dice: random.Random,
) -> None:
    for number in range(rounds(1000)):
        folder = tmp_path / str(number)
        folder.mkdir()
        environment = {**os.environ, **attempt_environment, "VERL_LAB_ATTEMPT_DIR": str(folder)}
        with subprocess.Popen(
            [sys.executable, "-c", ENDLESS_WRITER], env=environment, stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            for _ in range(dice.randrange(1, 400)):
                process.stdout.readline()
            process.kill()
            returned = [int(line) for line in process.stdout.read().split(b"\n")[:-1]]
        written = steps_on_disk(Attempt(AttemptLayout(folder), "run-a", 1))
        assert written == list(range(1, len(written) + 1))
        assert not returned or returned[-1] <= written[-1]


def test_full_disk_costs_the_records_of_that_time_and_says_so(
    attempt: Attempt,
    attempt_environment: dict[str, str],
    read_events: Callable[[Attempt], list[EventRecord]],
    rounds: Callable[[int], int],
    dice: random.Random,
) -> None:
    for _ in range(rounds(50)):
        for path in attempt.layout.folder.iterdir():
            path.unlink()
        limit = dice.randrange(300, 20_000)
        subprocess.run(
            [sys.executable, "-c", WRITER_ON_A_FULL_DISK, str(limit)],
            env={**os.environ, **attempt_environment},
            check=True,
        )
        header, *lines = attempt.layout.metrics.read_bytes().splitlines()
        assert decode_header(header).run == "run-a"
        # At most one line was cut short; it is not glued to the next.
        torn = [line for line in lines if not line.endswith(b"}}")]
        steps = [decode_metrics(line).step for line in lines if line not in torn]
        assert len(torn) <= 1
        assert steps[-5:] == [21, 22, 23, 24, 25]
        before = len(steps) - 5
        assert steps[:before] == list(range(1, before + 1))
        gaps = [event.data for event in read_events(attempt) if event.kind == "metrics_gap"]
        if before < 20:
            assert [(gap["lost"], gap["first_step"], gap["last_step"]) for gap in gaps] == [
                (20 - before, before + 1, 20)
            ]
        else:
            assert gaps == []


def test_several_processes_write_events_into_one_file(
    attempt: Attempt,
    attempt_environment: dict[str, str],
    read_events: Callable[[Attempt], list[EventRecord]],
) -> None:
    sources = ["trainer", "driver", "worker-1", "worker-2"]
    processes = [
        subprocess.Popen([sys.executable, "-c", EVENT_WRITER, source], env={**os.environ, **attempt_environment})
        for source in sources
    ]
    assert [process.wait() for process in processes] == [0, 0, 0, 0]
    events = read_events(attempt)
    for source in sources:
        assert [event.seq for event in events if event.source == source] == list(range(200))


def test_event_after_the_torn_line_of_a_dead_process_is_on_its_own_line(attempt: Attempt) -> None:
    first = EventLog(attempt, "trainer")
    first.emit("train_begin")
    with attempt.layout.events.open("ab") as file:
        file.write(b'{"seq":0,"kind":"half')
    first.emit("train_end")
    EventLog(attempt, "driver").emit("exception")
    lines = attempt.layout.events.read_bytes().splitlines()
    assert [line.startswith(b'{"seq"') and line.endswith(b"}") for line in lines[1:]] == [True, False, True, True]


def test_what_is_no_number_does_not_cost_the_rest_of_its_step(attempt: Attempt) -> None:
    writer = MetricsWriter(attempt, EventLog(attempt, "trainer"))
    writer.write(1, {**METRICS, "nan": math.nan, "inf": -math.inf, "text": "much", 3: 4, "huge": 10**30})
    writer.close()
    record = decode_metrics(attempt.layout.metrics.read_bytes().splitlines()[1])
    assert math.isnan(record.data["nan"])
    assert record.data["inf"] == -math.inf
    assert record.data["huge"] == 1e30
    assert record.data["3"] == 4
    assert record.rejected == {"text": "str is no number"}
    assert METRICS.items() <= record.data.items()


def test_folder_that_is_gone_does_not_stop_the_writer(attempt: Attempt) -> None:
    events = EventLog(attempt, "trainer")
    writer = MetricsWriter(attempt, events)
    attempt.layout.folder.rmdir()
    writer.write(1, METRICS)
    assert not events.emit("train_begin")
    attempt.layout.folder.mkdir()
    writer.write(2, METRICS)
    assert steps_on_disk(attempt) == [2]
    assert b'"metrics_gap"' in attempt.layout.events.read_bytes()

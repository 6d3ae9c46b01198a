"""Console logs as terminals and launchers leave them: lines wrapped, several ranks in one file."""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING

import pytest

from verl_lab.errors import StoreError
from verl_lab.store import RunRow, Store
from verl_lab.stream import Feed, FollowedRun
from verl_lab.stream.formats import verl_console
from verl_lab.stream.run_reader import RunReader
from verl_lab.transport.local import LocalHost

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from pathlib import Path

    from stream.conftest import Reading

ANSI = re.compile(rb"\x1b\[[0-9;]*m")
NAMES = ["actor/entropy", "training/global_step", "val-core/a data source/acc/mean@1"]


def curves(content: bytes) -> dict[str, dict[int, float]]:
    """Return what a log comes to: of a step's values the last one counts."""
    place, lines = 0, []
    for line in content.split(b"\n"):
        lines.append((place, line))
        place += len(line) + 1
    found: dict[str, dict[int, float]] = {}
    for _, record in verl_console.parse(lines).records:
        for name, value in record.data.items():
            found.setdefault(name, {})[record.step] = value
    return found


def wrapped(text: str, width: int, how: str) -> str:
    lines = [line[at : at + width] for line in text.splitlines() for at in range(0, max(1, len(line)), width)]
    if how == "trimmed":  # as a terminal's capture: blanks at the end of a line are gone
        lines = [line.rstrip() for line in lines]
    elif how == "between words":
        words = textwrap.TextWrapper(width, break_on_hyphens=False)
        lines = [part for line in text.splitlines() for part in words.wrap(line) or [""]]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("how", ["hard", "trimmed", "between words"])
@pytest.mark.parametrize("width", [80, 81, 132, 200, 1000])
def test_a_wrapped_log_shows_the_same_curves(how: str, width: int, recordings: Path):
    whole = (recordings / "grpo-30-steps.console.log").read_bytes()
    text = ANSI.sub(b"", whole).decode()
    assert curves(wrapped(text, width, how).encode()) == curves(whole)


@pytest.mark.parametrize("width", [40, 57, 80, 120])
def test_a_log_wrapped_anywhere_shows_the_same_curves(width: int, rounds: Callable[[int], int], dice: random.Random):
    for _ in range(rounds(500)):
        how = dice.choice(["hard", "trimmed"])
        # Of a blank in a name that was trimmed away nothing is left to tell.
        names = [name if how == "hard" else name.replace(" ", "_") for name in NAMES]
        lines: list[str] = []
        for step in range(1, 6):
            pairs = [f"{name}:{dice.choice([dice.random(), 1e-8, -3, step])}" for name in names]
            # A line that ends within plain digits looks like a whole one: here the last value never does.
            lines.append(f"step:{step} - " + " - ".join(pairs) + f" - timing_s/step:np.float64({dice.random()})")
            lines += dice.choice([[], ["(raylet) a warning"], ["Training:  10%|#  | 1/10", "5"]])
        text = "\n".join(lines) + "\n"
        assert curves(wrapped(text, width, how).encode()) == curves(text.encode())


def test_what_follows_a_step_line_by_chance_is_no_part_of_it():
    for follower in (
        "5", "-1", "2025-01-01 10:00:00 - INFO - saved:1", "loss:3 - acc:4x", " - ", "Epoch 2 - lr:0.1", "e-05",
        "step:2 - a:9.0", "(TaskRunner pid=3) step:2 - a:9.0", "12:30:01 - b:1",
    ):  # fmt: skip
        found = curves(f"step:1 - a:1.0 - b:2.0\n{follower}\n".encode())
        assert found["a"][1] == 1.0, follower
        assert found["b"] == {1: 2.0}, follower
        assert set(found) <= {"a", "b"}, follower


def test_each_of_rays_lines_may_carry_the_prefix_and_others_may_come_between():
    log = (
        b"\x1b[36m(TaskRunner pid=7)\x1b[0m step:1 - actor/lr:1e-0\n"
        b"(WorkerDict pid=9) loading\n"
        b"\x1b[36m(TaskRunner pid=7)\x1b[0m 6 - actor/entropy:0.25 - critic/sc\n"
        b"\x1b[36m(TaskRunner pid=7)\x1b[0m ore:0.5 - x:1\n"
        b"(TaskRunner pid=7) step:2 - actor/lr:1e-06\n"
    )
    assert curves(log) == {
        "actor/lr": {1: 1e-6, 2: 1e-6},
        "actor/entropy": {1: 0.25},
        "critic/score": {1: 0.5},
        "x": {1: 1.0},
    }


@pytest.mark.parametrize(
    "prefix",
    ["[rank{}]: ", "[default{}]:", "[1,{}]<stdout>:", "{}: ", "(WorkerDict pid=40{}) ", "(A pid=4{}, ip=10.0.0.{}) "],
)
def test_of_several_ranks_the_lowest_one_counts_and_the_others_add_what_it_does_not_log(
    prefix: str, dice: random.Random
):
    lines = []
    for step in range(1, 30):
        ranks = [0, 1, 2, 3]
        dice.shuffle(ranks)
        for rank in ranks:
            own = f" - rank_{rank}/memory:{rank}.0"
            lines.append(f"{prefix.format(rank, rank)}step:{step} - loss:{step + rank / 10} - lr:{rank}{own}")
    found = curves("\n".join(lines).encode() + b"\n")
    assert found["loss"] == {step: float(step) for step in range(1, 30)}
    assert set(found["lr"].values()) == {0.0}
    assert found["rank_3/memory"] == dict.fromkeys(range(1, 30), 3.0)


def test_steps_that_are_gone_through_again_by_a_new_process_count():
    log = "".join(f"(TaskRunner pid=10) step:{step} - loss:1.0\n" for step in range(1, 11))
    log += "".join(f"(TaskRunner pid=20) step:{step} - loss:2.0\n" for step in range(6, 13))
    log += "".join(f"(TaskRunner pid=5) step:{step} - loss:3.0\n" for step in range(9, 15))
    steps = curves(log.encode())["loss"]
    assert steps == dict.fromkeys(range(1, 6), 1.0) | dict.fromkeys(range(6, 9), 2.0) | dict.fromkeys(range(9, 15), 3.0)


def test_a_wrapped_log_is_read_the_same_however_it_arrives_and_whoever_goes_on_reading(
    another_reading: Callable[[], Reading],
    recordings: Path,
    tmp_path: Path,
    rounds: Callable[[int], int],
    dice: random.Random,
):
    text = ANSI.sub(b"", (recordings / "grpo-30-steps.console.log").read_bytes()).decode()
    content = wrapped(text, 132, "hard").encode()
    expected = curves(content)
    for number in range(rounds(30)):
        reading, run_id = another_reading(), f"run-{number}"
        log = tmp_path / f"{number}.log"
        log.touch()
        reading.follow(log, run_id, "attached")
        place = 0
        while place < len(content):
            piece = dice.choice([50, 500, 5000, 50_000])
            with log.open("ab") as file:
                file.write(content[place : place + piece])
            place += piece
            if dice.random() < 0.3:  # another process goes on from here
                reading.close()
                reading = another_reading()
                reading.follow(log, run_id, "attached")
            reading.reader.sync(run_id)
        assert {name: reading.read(name, run_id) for name in reading.store.metrics.names(run_id)} == expected


def test_lines_that_could_not_be_stored_are_read_again_as_if_for_the_first_time(url: str, tmp_path: Path):
    log = tmp_path / "console.log"
    log.write_bytes(b"(T pid=7) step:1 - actor/a:0.5 - actor/b:0.2\n")
    store = Store.open(url, busy_s=0.1)
    store.runs.upsert(RunRow(id="run-1", name="run-1", folder=str(log), kind="attached"))
    reader = RunReader(store, Feed(), FollowedRun("run-1", LocalHost(), str(log), "attached"))
    reader.read(thoroughly=True)
    with log.open("ab") as file:
        file.write(b"5 - actor/c:1 - actor/d:2\n(T pid=7) step:2 - actor/a:0.25 - actor/b:0.7\n")
    other = Store.open(url)
    for _ in range(2):
        with other._database.write(), pytest.raises(StoreError, match="locked"):
            reader.read(thoroughly=True)
    reader.read(thoroughly=True)
    found = {name: store.metrics.read("run-1", f"actor/{name}")[1].tolist() for name in "abcd"}
    assert found == {"a": [0.5, 0.25], "b": [0.25, 0.7], "c": [1.0], "d": [2.0]}
    store.close()
    other.close()

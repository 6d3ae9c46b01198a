"""Recorded runs written as the trainer and the supervisor would have, for reports to be made of."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import yaml

from verl_lab.domain.wire import (
    AttemptLayout,
    EventRecord,
    Header,
    RunLayout,
    encode_event,
    encode_header,
    encode_metrics,
)
from verl_lab.recipes.overrides import flatten
from verl_lab.recipes.schema import schema_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from playwright.sync_api import Page

    from verl_lab import Lab
    from verl_lab.lab.reports.reporting import Report

RECORDING = Path(__file__).parents[1] / "recordings" / "verl-0.9.1" / "grpo-kl-loss-30-steps.jsonl"
PAYLOADS = (Path(__file__).parents[1] / "browser" / "payloads.txt").read_text("utf-8").splitlines()
HOSTILE = '<img src=x onerror="window.pwned = 1">'
LEAP_STEP = 21


@dataclass
class Made:
    """A report, how it was told of, and where its lab is."""

    home: Path
    report: Report
    told: list[str]
    runs: list[str]


@dataclass
class Offline:
    """A page of a browser that reaches nothing, and what was asked for all the same."""

    page: Page
    asked: list[str] = field(default_factory=list[str])
    errors: list[str] = field(default_factory=list[str])


def write_run(
    lab: Lab,
    name: str,
    *,
    settings: Mapping[str, Any],
    change: Callable[[int, dict[str, float]], None] = lambda _step, _data: None,
    title: str = "",
    data: str = "a" * 64,
) -> str:
    """Write the recorded run as the trainer and the supervisor would have, changed step by step; return its id."""
    recipe = lab.recipes.get("grpo-cpu").model_copy(
        update={
            "name": name,
            "model": "/models/tiny",
            "description": "Adds small numbers.",
            "parameters": dict(settings),
        }
    )
    folder = lab.settings.runs_root / f"20260101-000000-{name}-0000"
    attempt = AttemptLayout(folder / "attempts" / "1")
    attempt.folder.mkdir(parents=True)
    given = {**dict(flatten(settings)), "data.seed": 7}
    (folder / "config.yaml").write_text(yaml.safe_dump(_configuration(given)))
    record: dict[str, Any] = {"version": 1, "run": folder.name, "name": title or name, "created": 1.0}
    record |= {"recipe": recipe.model_dump(mode="json"), "algorithm": "grpo", "overrides": ["data.seed=7"]}
    record |= {"versions": {"verl": "0.9.1"}, "launch": {"argv": [f"{key}={value}" for key, value in given.items()]}}
    record |= {"datasets": [{"role": "train", "hash": data, "name": "sums", "paths": ["/data/sums.parquet"]}]}
    (folder / "run.json").write_text(json.dumps(record))
    header = encode_header(Header(folder.name, 1, 1, 1, "boot"))
    rows = [orjson.loads(line) for line in RECORDING.read_bytes().splitlines()]
    begun = time.time() - 1000
    lines: list[bytes] = []
    for place, row in enumerate(rows):
        values = {key: float(value) for key, value in row["data"].items() if isinstance(value, int | float)}
        change(int(row["step"]), values)
        lines.append(encode_metrics(place, int(row["step"]), begun + 10.0 * place, values))
    attempt.metrics.write_bytes(header + b"".join(lines))
    begin = EventRecord(
        0, begun, "train_begin", 0, "trainer", {"total_steps": 30, "resumed_from": 0, "platform": "cpu"}
    )
    attempt.events.write_bytes(header + encode_event(begin))
    last = max(int(row["step"]) for row in rows)
    status = {"version": 1, "run": folder.name, "attempt": 1, "state": "completed", "step": last, "total": last}
    attempt.status.write_text(json.dumps({**status, "started": begun, "ended": begun + 300, "updated": begun + 300}))
    return folder.name


def _configuration(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return verl's configuration with some keys set."""
    nested: dict[str, Any] = {}
    values = {key.name: key.default for key in schema_of("ppo").keys.values() if not key.declared_only}
    for name, value in (values | dict(given)).items():
        *groups, leaf = name.split(".")
        branch = nested
        for group in groups:
            branch = branch.setdefault(group, {})
        branch[leaf] = value
    return nested


def write_samples(lab: Lab, run: str, kind: str, step: int, rows: list[dict[str, Any]]) -> None:
    """Write the samples of one step."""
    folder = RunLayout(lab.settings.runs_root / run).attempt(1).folder / "samples" / kind
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{step}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def leap(step: int, data: dict[str, float]) -> None:
    """Let the policy run away from its reference."""
    if step >= LEAP_STEP:
        data["actor/kl_loss"] = 4.0 + 2.0 * (step - LEAP_STEP)
        data[f"val-core/{HOSTILE}/acc/mean@1"] = 0.5


def fill(lab: Lab) -> tuple[str, str]:
    """Write a run and its baseline."""
    slow = {"actor_rollout_ref": {"actor": {"optim": {"lr": 1e-6}}}}
    fast = {"actor_rollout_ref": {"actor": {"optim": {"lr": 1e-3}}}}
    baseline = write_run(lab, "calm", settings=slow)
    run = write_run(lab, "leap", settings=fast, change=leap, title=f"leap {HOSTILE}", data="b" * 64)
    for step, score in ((0, 0.0), (30, 1.0)):
        rows = [{"input": f"{k} + 1 = {HOSTILE}", "output": f"{k + int(score)}", "gts": f"{k + 1}"} for k in range(6)]
        write_samples(lab, run, "validation", step, [row | {"score": score} for row in rows])
    groups = [
        {"input": f"{g} + 2", "output": f"answer {k} {HOSTILE}", "score": float(k % 2 and g), "uid": f"u{g}_{k}_0"}
        for g in range(3)
        for k in range(4)
    ]
    write_samples(lab, run, "rollout", 30, groups)
    return run, baseline

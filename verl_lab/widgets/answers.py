"""What a page gets when it asks: samples, the log, the configuration, the data and the picture."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from verl_lab.errors import NotFoundError
from verl_lab.widgets.flatten import flatten
from verl_lab.widgets.told import clipped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from verl_lab.widgets.axis import Line
    from verl_lab.widgets.source import PanelSource, Sample, SampleSheet

_BYTES_MOST = 90_000
_TEXT_LONGEST = 1_600
_GROUP_BYTES, _BYTES_A_CHARACTER = 50_000, 4
_RESPONSES_MOST = 300
_WHOLE_LONGEST = 80_000
_LOG_LINES = 400
_LOG_LONGEST = 60_000
_VALUE_LONGEST = 2_000


def told_samples(source: PanelSource, step: int | None, kind: str, start: int) -> dict[str, Any]:
    """Return the groups of a step's samples from number ``start`` on, as many as one message takes."""
    try:
        sheet = source.samples(step, kind)
    except NotFoundError as error:
        return {"type": "samples", "kind": kind, "empty": str(error)}
    groups: list[dict[str, Any]] = []
    size = 0
    for group in sheet.groups[start:]:
        shown = group.samples[:_RESPONSES_MOST]
        # One group always fits: of many responses, less of each is shown.
        longest = min(_TEXT_LONGEST, _GROUP_BYTES // (_BYTES_A_CHARACTER * max(1, len(shown))))
        told = {
            "prompt": _shortened(group.prompt, _TEXT_LONGEST),
            "samples": [_told_sample(one, longest) for one in shown],
            "responses": len(group.samples),
        }
        size += len(orjson.dumps(told))
        if groups and size > _BYTES_MOST:
            break
        groups.append(told)
    return {
        "type": "samples",
        "kind": sheet.kind,
        "step": sheet.step,
        "steps": {name: list(steps)[-2_000:] for name, steps in sheet.steps.items()},
        "groups": groups,
        "start": start,
        "count": len(sheet.groups),
    }


def told_sample(source: PanelSource, step: int, kind: str, group: int, place: int | None) -> dict[str, Any]:
    """Return one text in full: the response at ``place`` of a group, or its prompt if None.

    Raises
    ------
    NotFoundError
        There is no such sample.
    """
    sheet = source.samples(step, kind)
    text = _text_at(sheet, group, place)
    return {"type": "sample", "group": group, "place": place, "text": clipped(text, _WHOLE_LONGEST)}


def told_log(source: PanelSource) -> dict[str, Any]:
    """Return the end of what training printed."""
    text = source.log(_LOG_LINES)
    return {"type": "log", "text": text[-_LOG_LONGEST:], "cut": len(text) > _LOG_LONGEST}


def told_config(source: PanelSource) -> dict[str, Any]:
    """Return the configuration as rows of key and value."""
    rows: list[tuple[str, str]] = []
    flat = flatten(source.config())
    size = 0
    for key, value in flat.items():
        rows.append((clipped(key, 300), clipped(value, _VALUE_LONGEST)))
        size += len(orjson.dumps(rows[-1]))
        if size > _BYTES_MOST:
            rows.pop()
            break
    return {"type": "config", "rows": rows, "left_out": len(flat) - len(rows)}


def table(lines: Sequence[Line], metrics: Sequence[str], span: tuple[float, float] | None) -> bytes:
    """Return metrics as CSV, a row for each step, every value as exact as it was logged.

    Parameters
    ----------
    lines
        The runs; with more than one, the first column names them.
    metrics
        The columns.
    span
        First and last step wanted; None for all.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    several = len(lines) > 1
    writer.writerow([*(["run"] if several else []), "step", *metrics])
    for line in lines:
        series = [line.curves.series(metric) for metric in metrics]
        steps = _every_step([one for one, _ in series])
        if span is not None:
            steps = steps[(steps >= span[0]) & (steps <= span[1])]
        columns = [_cells(steps, *one) for one in series]
        for place, step in enumerate(steps.tolist()):
            writer.writerow([*([line.name] if several else []), step, *(column[place] for column in columns)])
    return text.getvalue().encode()


def _every_step(steps: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.unique(np.concatenate(steps)) if steps else np.empty(0, np.int64)


def _cells(wanted: NDArray[np.int64], steps: NDArray[np.int64], values: NDArray[np.float64]) -> list[str]:
    """Return a value for each wanted step as text; empty where none was logged."""
    cells = [""] * wanted.size
    inside = np.isin(steps, wanted)
    for place, value in zip(np.searchsorted(wanted, steps[inside]).tolist(), values[inside].tolist(), strict=True):
        cells[place] = repr(value)
    return cells


def _told_sample(sample: Sample, longest: int) -> dict[str, Any]:
    expected = None if sample.expected is None else clipped(sample.expected, longest // 4)
    return {"response": _shortened(sample.response, longest), "score": sample.score, "expected": expected}


def _shortened(text: str, longest: int) -> dict[str, Any]:
    """Return the beginning and the end of a long text, and how much lies between."""
    if len(text) <= longest:
        return {"head": text, "left_out": 0, "tail": ""}
    tail = longest // 4
    return {"head": text[: longest - tail], "left_out": len(text) - longest, "tail": text[-tail:]}


def _text_at(sheet: SampleSheet, group: int, place: int | None) -> str:
    if not 0 <= group < len(sheet.groups):
        raise NotFoundError(f"There is no group {group} at step {sheet.step}.", f"There are {len(sheet.groups)}.")
    chosen = sheet.groups[group]
    if place is None:
        return chosen.prompt
    if not 0 <= place < len(chosen.samples):
        raise NotFoundError(f"There is no response {place} in group {group}.", f"There are {len(chosen.samples)}.")
    return chosen.samples[place].response

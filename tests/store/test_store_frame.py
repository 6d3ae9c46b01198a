"""Metrics and events as tables."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from verl_lab.domain.wire import EventRecord, MetricRecord
from verl_lab.errors import InvalidInputError
from verl_lab.store import Batch, FilePosition, Store, of_events

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ("loss", "acc", "odd")


@pytest.fixture
def filled(store: Store) -> Store:
    records = []
    for step in range(1, 2001):
        data = {"loss": 1 / step, "odd": math.nan if step == 2 else math.inf if step == 3 else float(step)}
        if step % 10 == 0:
            data["acc"] = -1.0 if step == 700 else step / 2000
        records.append((step, MetricRecord(step, step, 100.0 + step, data)))
    events = [
        (1, EventRecord(0, 1.5, "train_begin", None, "trainer", {"resumed_from": 0, "who": "é"})),
        (2, EventRecord(1, None, "checkpoint_saved", 50, "trainer", {"path": "/x"})),
    ]
    batch = Batch("run-1", 1, "m", None, FilePosition(9, 0, b""), records=records, events=events)
    assert store.commit(batch)
    return store


def test_metrics_stand_side_by_side_over_the_steps(filled: Store):
    frame = filled.metrics.frame("run-1", NAMES, 1, 20).to("pandas")
    assert frame.index.name == "step"
    assert frame.index.tolist() == list(range(1, 21))
    assert list(frame.columns) == list(NAMES)
    assert frame["loss"].tolist() == [1 / step for step in range(1, 21)]
    assert frame["acc"].dropna().to_dict() == {10: 0.005, 20: 0.01}
    assert frame["odd"][3] == math.inf


def test_arrow_tells_what_was_not_logged_from_what_was_nan(filled: Store):
    table = filled.metrics.frame("run-1", NAMES, 1, 10).to("arrow")
    assert table.column_names == ["step", *NAMES]
    assert table["acc"].to_pylist() == [None] * 9 + [0.005]
    odd = table["odd"].to_pylist()
    assert math.isnan(odd[1])
    assert table["odd"].null_count == 0


def test_numpy_gives_arrays_of_ones_own(filled: Store):
    found = filled.metrics.frame("run-1", ["loss"]).to("numpy")
    assert found["step"].dtype == np.int64
    found["loss"][0] = 5.0
    found["step"][0] = 5
    assert filled.metrics.read("run-1", "loss")[1][0] == 1.0
    assert filled.metrics.read("run-1", "loss")[0][0] == 1


def test_a_reduced_table_keeps_extremes_and_every_value_it_shows_is_true(filled: Store):
    frame = filled.metrics.frame("run-1", NAMES, points=60).to("pandas")
    whole = filled.metrics.frame("run-1", NAMES).to("pandas")
    assert len(frame) <= 60
    assert {1, 700, 2000} <= set(frame.index)
    assert frame["acc"].min() == -1.0
    assert frame["loss"].max() == 1.0
    assert frame.equals(whole.loc[frame.index])
    assert len(whole) == 2000


def test_a_run_without_metrics_gives_an_empty_table(store: Store):
    assert store.metrics.frame("run-1", []).to("pandas").empty
    assert len(store.metrics.frame("run-1", ["x"]).to("arrow")) == 0


@pytest.mark.parametrize("points", [0, 7, -1])
def test_too_few_points_are_refused(filled: Store, points: int):
    with pytest.raises(InvalidInputError, match=f"points: {points}"):
        filled.metrics.frame("run-1", NAMES, points=points)


def test_a_kind_that_is_none_is_refused(filled: Store):
    with pytest.raises(InvalidInputError, match="'polars'") as caught:
        filled.metrics.frame("run-1", NAMES).to("polars")
    assert "pandas, arrow, numpy" in (caught.value.hint or "")


def test_events_come_as_a_table(filled: Store):
    frame = of_events(filled.events.read("run-1")).to("pandas")
    assert frame["kind"].tolist() == ["train_begin", "checkpoint_saved"]
    assert frame["step"].isna().tolist() == [True, False]
    assert frame["step"][1] == 50
    assert frame["data"][0] == {"resumed_from": 0, "who": "é"}
    table = of_events(filled.events.read("run-1")).to("arrow")
    assert table["step"].to_pylist() == [None, 50]
    assert table["data"].to_pylist() == ['{"resumed_from":0,"who":"é"}', '{"path":"/x"}']
    assert of_events([]).to("arrow")["data"].to_pylist() == []


def test_events_are_chosen_by_kind_and_step(filled: Store):
    assert [e.kind for e in filled.events.read("run-1", "train_begin")] == ["train_begin"]
    assert [e.kind for e in filled.events.read("run-1", start_step=0)] == ["checkpoint_saved"]
    assert filled.events.read("run-1", start_step=51, end_step=10**30) == []


def test_without_the_package_its_name_is_told(url: str, filled: Store, tmp_path: Path):
    for package in ("pandas", "pyarrow"):
        (tmp_path / f"{package}.py").write_text(f"raise ModuleNotFoundError('{package}')\n")
    code = (
        "import sys; sys.path.insert(0, sys.argv[2])\n"
        "from verl_lab.errors import EnvironmentMismatchError\n"
        "from verl_lab.store import Store\n"
        "frame = Store.open(sys.argv[1]).metrics.frame('run-1', ['loss'])\n"
        "assert 'pandas' not in sys.modules and 'pyarrow' not in sys.modules\n"
        "for kind in ('pandas', 'arrow'):\n"
        "    try: frame.to(kind)\n"
        "    except EnvironmentMismatchError as error: print(error.message, error.hint)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, url, str(tmp_path)], capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    assert "needs the package pandas" in first
    assert "pip install pandas" in first
    assert "pip install pyarrow" in second

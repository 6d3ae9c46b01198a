"""The picture and the text a notebook keeps."""

from __future__ import annotations

import io
import math
from base64 import b64decode
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image
from replay import Replay

from verl_lab.widgets.selection import Selection
from verl_lab.widgets.still import drawn, still, summary
from verl_lab.widgets.wording import duration, number

if TYPE_CHECKING:
    from pathlib import Path


def test_picture_of_a_recorded_run_is_small_and_not_blank(recordings: Path) -> None:
    source = Replay(recordings / "grpo-kl-loss-30-steps.jsonl", 31, state="completed")
    bundle = still(source, Selection())
    png = b64decode(bundle["image/png"])
    assert len(png) < 60_000
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)
    assert np.any(pixels[..., 2] > pixels[..., 0] + 80)
    assert bundle["image/png"] in bundle["text/html"]


def test_picture_and_text_tell_health_and_findings(recordings: Path) -> None:
    source = Replay(recordings / "grpo-kl-loss-30-steps.jsonl", 31)
    with_findings = drawn(source, Selection())
    text = summary(source, Selection())
    assert "health 60 of 100" in text
    assert "Warning · Drift from the reference at step 12: actor/kl_loss was 1.491" in text
    source.raised = []
    assert "Drift" not in summary(source, Selection())
    # Less is drawn: no sentence, no markers, no thresholds.
    assert len(drawn(source, Selection())) < len(with_findings)


@pytest.mark.parametrize(
    "chosen",
    [
        Selection(axis="time"), Selection(is_log=True), Selection(smooth=0.9), Selection(span=(5.0, 9.0)),
        Selection(axis="time", is_log=True, smooth=0.5, over=("b",)),
    ],
)  # fmt: skip
def test_picture_follows_every_way_of_drawing(recordings: Path, chosen: Selection) -> None:
    source = Replay(recordings / "grpo-kl-loss-30-steps.jsonl", 31)
    source.besides = {"b": Replay(recordings / "grpo-30-steps.jsonl", 30, name="b")}
    pixels = np.asarray(Image.open(io.BytesIO(drawn(source, chosen))).convert("RGB"))
    plain = np.asarray(Image.open(io.BytesIO(drawn(source, Selection()))).convert("RGB"))
    assert pixels.shape != plain.shape or np.any(pixels != plain)


def test_run_without_values_gets_text_and_no_picture() -> None:
    source = Replay(state="starting", phase="loading model")
    bundle = still(source, Selection())
    assert set(bundle) == {"text/html", "text/plain"}
    assert "loading model" in bundle["text/plain"]


@pytest.mark.parametrize(
    "name", ["$\\frac{a$", "<img src=x onerror=alert(1)>", '"><b>', "\u202e報酬🎉", "a\nb", "%s{}"]
)
def test_any_name_is_drawn_as_text(name: str) -> None:
    source = Replay(name=name)
    source.fill(name, np.array([1.0, math.nan, math.inf, 2.0]))
    bundle = still(source, Selection())
    assert b64decode(bundle["image/png"]).startswith(b"\x89PNG")
    markup = bundle["text/html"].replace('<div class="verl-lab-still"><style>', "").split("</style>")[1]
    assert "<img src=x" not in markup
    assert '"><b>' not in markup


def test_summary_says_state_reason_and_last_values(recordings: Path) -> None:
    source = Replay(recordings / "sft-60-steps.jsonl", 10, state="failed", reason="The learning rate is no number.")
    lines = summary(source, Selection())
    assert "failed" in lines
    assert "The learning rate is no number." in lines
    assert "Loss" in lines


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"), (math.nan, "NaN"), (math.inf, "+∞"), (0.0, "0"), (0.0988, "0.099"), (0.5, "0.50"), (1.307, "1.31"),
        (735.1, "735"), (60.0, "60"), (-2.5, "−2.50"), (1e-5, "1.00e−5"), (3.2e9, "3.20e9"),
    ],
)  # fmt: skip
def test_numbers_are_written_short(value: float | None, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (-3, "0 s"), (64, "1 m 04 s"), (3_900, "1 h 05 m"), (90_000, "1 d 01 h")]
)
def test_durations_have_two_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text

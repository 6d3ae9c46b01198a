"""What a page is told of findings, health, samples, settings and logs."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import numpy as np
import orjson
import pytest
from replay import Replay

from verl_lab.domain.finding import Finding, Health, HealthEntry, Severity
from verl_lab.errors import NotFoundError
from verl_lab.widgets.answers import table, told_config, told_log, told_sample, told_samples
from verl_lab.widgets.axis import Line
from verl_lab.widgets.source import Sample, SampleGroup
from verl_lab.widgets.told import key_of, told_findings, told_health, worst

WARNING = Finding("kl-explosion", Severity.WARNING, "actor/kl_loss", 5, 9, "e", "c", "s", title="Drift")


def test_worst_is_the_gravest_active_one_that_nobody_acknowledged() -> None:
    error = replace(WARNING, severity=Severity.ERROR, rule="divergence")
    gone = replace(WARNING, severity=Severity.CRITICAL, cleared_step=7)
    info = replace(WARNING, severity=Severity.INFO)
    assert worst([WARNING, error, gone, info]) is error
    assert worst([WARNING, error], {key_of(error)}) is WARNING
    assert worst([gone, info]) is None


def test_finding_that_grows_graver_is_no_longer_acknowledged() -> None:
    known = {key_of(WARNING)}
    assert worst([replace(WARNING, last_step=30, evidence="more")], known) is None
    assert worst([replace(WARNING, severity=Severity.ERROR)], known) is not None


def test_list_of_findings_is_bounded_and_says_what_it_leaves_out() -> None:
    many = [replace(WARNING, rule=f"r{k}", evidence="é" * 2_000) for k in range(500)]
    message = told_findings(many, {f"rule-{k}": "why " * 500 for k in range(100)}, {key_of(many[0])})
    assert len(orjson.dumps(message)) <= 100_000
    assert message["left_out"] == 500 - len(message["findings"]) > 0
    assert [one["acknowledged"] for one in message["findings"][:2]] == [True, False]


def test_health_without_a_score_tells_the_reason_and_one_with_it_its_parts() -> None:
    assert told_health(Health(None, reason="Nothing yet."), {})["reason"] == "Nothing yet."
    entry = HealthEntry("kl-explosion", Severity.WARNING, 10.0, "it was 2")
    message = told_health(Health(90, (entry,)), {"kl-explosion": "Drift"})
    assert (message["score"], message["worst"], message["breakdown"][0]["title"]) == (90, "warning", "Drift")


def test_samples_come_in_parts_that_fit_and_leave_nothing_out() -> None:
    source = Replay()
    source.groups = {3: [SampleGroup(f"p{k}", tuple(Sample("r" * 3_000, 1.0) for _ in range(8))) for k in range(40)]}
    start, seen = 0, list[str]()
    while start < 40:
        message = told_samples(source, None, "validation", start)
        assert len(orjson.dumps(message)) <= 100_000
        seen += [group["prompt"]["head"] for group in message["groups"]]
        start += len(message["groups"])
    assert seen == [f"p{k}" for k in range(40)]


def test_group_too_large_for_one_message_is_shortened_to_fit() -> None:
    source = Replay()
    source.groups = {3: [SampleGroup("p", tuple(Sample("é" * 3_000, 1.0) for _ in range(256)))]}
    message = told_samples(source, None, "validation", 0)
    assert len(message["groups"][0]["samples"]) == 256
    assert len(orjson.dumps(message)) <= 100_000


def test_long_sample_is_shortened_in_the_middle_and_given_whole_when_asked() -> None:
    source = Replay()
    source.groups = {1: [SampleGroup("p", (Sample("a" * 9_000 + "z"),))]}
    told = told_samples(source, 1, "validation", 0)["groups"][0]["samples"][0]["response"]
    assert told["left_out"] == 9_001 - len(told["head"]) - len(told["tail"]) > 0
    assert told["tail"].endswith("az")
    assert told_sample(source, 1, "validation", 0, 0)["text"] == "a" * 9_000 + "z"
    for group, place in ((1, 0), (0, 1), (-1, 0)):
        with pytest.raises(NotFoundError):
            told_sample(source, 1, "validation", group, place)


def test_run_without_samples_says_so() -> None:
    assert "dumped no" in told_samples(Replay(), None, "rollout", 0)["empty"]


def test_configuration_is_one_row_a_key_and_bounded() -> None:
    source = Replay()
    source.settings = {"a": {"b": 1, "c": {}}, "d": [1, "x"], "e": None, "f": "text", "g": {1: True}}
    rows = dict(told_config(source)["rows"])
    assert rows == {"a.b": "1", "a.c": "{}", "d": '[1,"x"]', "e": "null", "f": "text", "g.1": "true"}
    source.settings = {f"key{k}": "v" * 1_000 for k in range(500)}
    message = told_config(source)
    assert len(orjson.dumps(message)) <= 100_000
    assert message["left_out"] == 500 - len(message["rows"])


def test_log_is_its_end() -> None:
    source = Replay()
    source.printed = "".join(f"line {k}\n" for k in range(9_000))
    assert told_log(source)["text"].endswith("line 8999\n")
    source.printed = "x" * 200_000
    assert told_log(source)["cut"]
    assert len(told_log(source)["text"]) <= 60_000


def test_table_is_exact_and_has_a_row_for_each_step() -> None:
    source, other = Replay(), Replay()
    source.fill("train/loss", np.array([0.1, np.nan, np.inf]))
    source.fill('odd "name", with\ncommas', np.array([1e-300]), first_step=2)
    other.fill("train/loss", np.array([7.0]))
    names = ["train/loss", 'odd "name", with\ncommas']
    rows = list(csv.reader(io.StringIO(table([Line("a", source)], names, None).decode())))
    assert rows == [["step", *names], ["1", "0.1", ""], ["2", "nan", "1e-300"], ["3", "inf", ""]]
    both = list(csv.reader(io.StringIO(table([Line("a", source), Line("b", other)], names[:1], (1, 2)).decode())))
    assert both == [["run", "step", "train/loss"], ["a", "1", "0.1"], ["a", "2", "nan"], ["b", "1", "7.0"]]

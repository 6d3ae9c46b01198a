from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from verl_lab.domain.wire import Header, encode_header
from verl_lab.errors import FormatError, NotFoundError
from verl_lab.stream import attached_run_id, detect_source
from verl_lab.transport.local import LocalHost

if TYPE_CHECKING:
    from pathlib import Path

HOST = LocalHost()


def test_the_format_is_found_by_content_whatever_the_name(recordings: Path, tmp_path: Path):
    for number, file in enumerate(sorted(recordings.iterdir())):
        other = tmp_path / f"{number}.bin"
        shutil.copy(file, other)
        assert detect_source(HOST, str(other)) == ("verl_console" if file.suffix == ".log" else "verl_file")


def test_a_console_log_is_known_before_its_first_step(tmp_path: Path):
    log = tmp_path / "out"
    log.write_bytes(
        b"2026-01-01 INFO worker.py started a local Ray instance\n\x1b[36m(TaskRunnerV1 pid=12)\x1b[0m {'actor'\n"
    )
    assert detect_source(HOST, str(log)) == "verl_console"


def test_a_step_far_into_a_console_log_is_found(tmp_path: Path):
    log = tmp_path / "out"
    log.write_bytes(b"loading weights, shard 1 of many\n" * 60_000 + b"step:1 - actor/lr:0.5\n")
    assert detect_source(HOST, str(log)) == "verl_console"


def test_a_run_folder_and_its_own_metrics_file_are_known(tmp_path: Path):
    (tmp_path / "run" / "attempts" / "1").mkdir(parents=True)
    assert detect_source(HOST, str(tmp_path / "run")) == "run"
    file = tmp_path / "run" / "attempts" / "1" / "metrics.jsonl"
    file.write_bytes(encode_header(Header("a", 1, 2, 3, "b")))
    assert detect_source(HOST, str(file)) == "metrics"


@pytest.mark.parametrize("content", [b"", b"hello\n", b'{"a": 1}\n', b"\0\1\2" * 1000, b'{"step":1,"data":{"a":1}}'])
def test_anything_else_is_refused_in_one_line_with_what_was_expected(tmp_path: Path, content: bytes):
    file = tmp_path / "some.jsonl"
    file.write_bytes(content)
    with pytest.raises(FormatError, match=r"some\.jsonl") as caught:
        detect_source(HOST, str(file))
    assert "\n" not in caught.value.message
    assert "step:N - key:value" in (caught.value.hint or "")


def test_a_folder_that_is_no_run_and_a_missing_path_are_refused(tmp_path: Path):
    with pytest.raises(FormatError, match="no run folder"):
        detect_source(HOST, str(tmp_path))
    with pytest.raises(NotFoundError, match="nothing at"):
        detect_source(HOST, str(tmp_path / "absent"))


def test_the_run_id_of_an_attached_log_is_stable_and_safe():
    assert attached_run_id("/x/My Run!.jsonl") == attached_run_id("/x/My Run!.jsonl")
    assert attached_run_id("/x/My Run!.jsonl") != attached_run_id("/y/My Run!.jsonl")
    assert attached_run_id("/x/My Run!.jsonl").startswith("attached-my-run-")

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from verl_lab.domain.wire import Header, encode_header
from verl_lab.errors import FormatError, InvalidInputError, NotFoundError
from verl_lab.stream import attached_run_id, find_logs
from verl_lab.transport.local import LocalHost

if TYPE_CHECKING:
    from pathlib import Path

HOST = LocalHost()


def detect_source(host: LocalHost, path: str) -> str:
    (log,) = find_logs(host, path)
    assert log.path == path
    return log.format


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
    with pytest.raises(FormatError, match="no run folder and holds no log"):
        detect_source(HOST, str(tmp_path))
    with pytest.raises(NotFoundError, match="nothing at"):
        detect_source(HOST, str(tmp_path / "absent"))


def test_the_logs_in_a_folder_are_found_wherever_they_lie(recordings: Path, tmp_path: Path):
    deep = tmp_path / "project" / "experiment"
    deep.mkdir(parents=True)
    shutil.copy(recordings / "sft-60-steps.jsonl", deep / "out")
    (tmp_path / "notes.txt").write_text("hello\n")
    (tmp_path / "weights.bin").write_bytes(bytes(range(256)) * 100)
    (tmp_path / "empty").touch()
    (tmp_path / "nowhere").symlink_to(tmp_path / "absent")
    (deep / "loop").symlink_to(tmp_path)
    assert {log.format for log in find_logs(HOST, str(tmp_path))} == {"verl_file"}
    (deep / "loop").unlink()
    assert find_logs(HOST, str(tmp_path)) == [(str(deep / "out"), "verl_file")]
    shutil.copy(recordings / "grpo-30-steps.console.log", tmp_path / "console")
    (tmp_path / "run" / "attempts" / "1").mkdir(parents=True)
    shutil.copy(recordings / "sft-60-steps.jsonl", tmp_path / "run" / "attempts" / "1" / "metrics.jsonl")
    assert find_logs(HOST, str(tmp_path)) == [
        (str(tmp_path / "console"), "verl_console"),
        (str(deep / "out"), "verl_file"),
        (str(tmp_path / "run"), "run"),
    ]


def test_a_folder_of_too_many_things_is_not_looked_through(tmp_path: Path):
    for number in range(5001):
        (tmp_path / str(number)).touch()
    with pytest.raises(InvalidInputError, match="too much"):
        find_logs(HOST, str(tmp_path))


def test_the_run_id_of_an_attached_log_is_stable_and_safe():
    assert attached_run_id("/x/My Run!.jsonl") == attached_run_id("/x/My Run!.jsonl")
    assert attached_run_id("/x/My Run!.jsonl") != attached_run_id("/y/My Run!.jsonl")
    assert attached_run_id("/x/My Run!.jsonl").startswith("attached-my-run-")

"""A report that cannot be made leaves nothing behind, and says why."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
import pytest
from recorded import write_run

from verl_lab import Lab
from verl_lab.errors import EnvironmentMismatchError, InvalidInputError, NoSpaceError, NotFoundError, ReportError
from verl_lab.reports.keep import free_stem, keep, open_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with Lab(tmp_path / "home") as made:
        write_run(made, "one", settings={})
        yield made


def refuse(line: str) -> None:
    """Take no line: nothing is to be begun."""
    pytest.fail(f"It was begun: {line}")


def test_what_makes_no_sense_is_refused_before_anything_is_begun(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    with pytest.raises(NotFoundError, match="no run 'two'"):
        lab.report("two", to=tmp_path / "out", progress=refuse)
    with pytest.raises(InvalidInputError, match="'docx' is none"):
        lab.report("one", to=tmp_path / "out", formats=("html", "docx"), progress=refuse)
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InvalidInputError, match="is no folder"):
            lab.report("one", to=place, progress=refuse)
    with pytest.raises(InvalidInputError, match="cannot be written to"):
        lab.report("one", to="/proc/reports", progress=refuse)
    assert not (tmp_path / "out").exists()
    assert (tmp_path / "file").read_text() == "kept"


def test_pdf_without_a_browser_names_what_to_install(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnvironmentMismatchError, match="apt-get install chromium"):
        lab.report("one", to=tmp_path / "out", formats=("html", "pdf"), progress=refuse)


def test_full_disk_leaves_no_half_report(disk_of: Callable[[str], Path]) -> None:
    place = disk_of("1m")
    open_folder(place)
    cells = [nbformat.v4.new_code_cell("x" * 700_000)]
    with pytest.raises(NoSpaceError, match="no room for a report"):
        keep(nbformat.v4.new_notebook(cells=cells), place, "large", title="large")
    assert list(place.iterdir()) == []
    (place / "filling").write_bytes(b"x" * (1 << 20))
    with pytest.raises(NoSpaceError):
        open_folder(place)
    assert [path.name for path in place.iterdir()] == ["filling"]


def test_earlier_report_is_not_written_over(tmp_path: Path) -> None:
    assert free_stem(tmp_path, "run") == "run"
    (tmp_path / "run.ipynb").write_text("edited")
    (tmp_path / "run-2.html").write_text("sent")
    assert free_stem(tmp_path, "run") == "run-3"


def test_failing_section_is_named_and_nothing_is_written(lab: Lab, tmp_path: Path) -> None:
    status = next(lab.settings.runs_root.glob("*-one-*/attempts/1/status.json"))

    def spoil(line: str) -> None:
        if "cell 1 of" in line:
            status.write_text("no status")

    with pytest.raises(
        ReportError, match=r"stopped at cell 3 of 12 \(from verl_lab import Lab\): \w+Error: "
    ) as raised:
        lab.report("one", to=tmp_path / "out", progress=spoil)
    assert "status.json" in str(raised.value)
    assert list((tmp_path / "out").iterdir()) == []


def test_interrupt_ends_the_kernel_and_leaves_nothing(tmp_path: Path) -> None:
    cells = [nbformat.v4.new_code_cell("import os, time\nprint('kernel', os.getpid(), flush=True)\ntime.sleep(600)")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "slow.ipynb")
    argv = [sys.executable, "-m", "verl_lab.reports", str(tmp_path / "slow.ipynb"), "--output", str(tmp_path / "out")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = next(line for line in process.stdout if line.startswith("kernel"))
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 130
    assert said == "Interrupted: no report was written.\n"
    assert list((tmp_path / "out").iterdir()) == []
    assert not Path(f"/proc/{int(line.split()[1])}").exists()

"""A notebook run headless becomes a report that needs neither kernel nor network."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


def report(notebook: Path, output: Path) -> subprocess.CompletedProcess[str]:
    """Run the command as ``make demo`` does."""
    argv = [sys.executable, "-m", "verl_lab.reports", str(notebook), "--output", str(output)]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=300)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], Path]:
    """Return the report of the short notebook."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VERL_LAB_HOME", str(tmp_path_factory.mktemp("home")))
        output = tmp_path_factory.mktemp("report")
        return report(NOTEBOOKS / "02_watch_any_run.ipynb", output), output


def test_command_shows_progress_and_says_where_the_report_is(
    made: tuple[subprocess.CompletedProcess[str], Path],
) -> None:
    done, output = made
    assert done.returncode == 0, done.stderr
    assert "cell 1 of" in done.stdout
    assert str(output / "02_watch_any_run.html") in done.stdout


def test_charts_show_without_a_kernel(made: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    notebook = nbformat.read(made[1] / "02_watch_any_run.ipynb", as_version=4)
    outputs = [o for cell in notebook.cells for o in cell.get("outputs", [])]
    pictures = [o.data["image/png"] for o in outputs if "image/png" in o.get("data", {})]
    assert pictures
    assert all(len(p) > 5_000 for p in pictures)
    assert not any(WIDGET_VIEW in o.get("data", {}) for o in outputs)
    assert "widgets" not in notebook.metadata
    assert (made[1] / "02_watch_any_run.ipynb").stat().st_size < 2_000_000


def test_page_asks_the_network_for_nothing(made: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    page = (made[1] / "02_watch_any_run.html").read_text()
    assert "data:image/png;base64" in page
    asked = re.findall(r"""<(?:script|link|img|iframe)[^>]+(?:src|href)=["'](?!data:)([^"'#][^"']*)""", page)
    assert not asked
    assert "require.min.js" not in page


def test_failing_cell_is_kept_and_named(tmp_path: Path) -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("print('before')\n1 / 0")])
    nbformat.write(notebook, tmp_path / "broken.ipynb")
    done = report(tmp_path / "broken.ipynb", tmp_path / "out")
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
    assert "before" in (tmp_path / "out" / "broken.ipynb").read_text()


@pytest.mark.parametrize("name", ["missing.ipynb", "prose.ipynb"])
def test_what_is_no_notebook_is_said_in_a_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "prose.ipynb").write_text("prose")
    done = report(tmp_path / name, tmp_path / "out")
    assert done.returncode == 2
    assert name in done.stderr
    assert "Traceback" not in done.stderr

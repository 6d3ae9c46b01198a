"""``python -m verl_lab.reports NOTEBOOK``: run a notebook and keep it as a report."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import nbformat

from verl_lab.errors import VerlLabError
from verl_lab.reports.execute import execute
from verl_lab.reports.page import to_html
from verl_lab.reports.terminal import Terminal


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    program = "python -m verl_lab.reports"
    parser = argparse.ArgumentParser(prog=program, description="Run a notebook and keep it as a report.")
    parser.add_argument("notebook", type=Path, help="the notebook; it is not changed")
    parser.add_argument("--output", type=Path, default=Path("build/reports"), help="folder (default: %(default)s)")
    args = parser.parse_args(argv)
    source: Path = args.notebook
    folder: Path = args.output
    try:
        executed, failure = execute(source, workdir=source.resolve().parent, terminal=Terminal(sys.stdout))
    except VerlLabError as error:
        print(error, file=sys.stderr)
        return 2
    folder.mkdir(parents=True, exist_ok=True)
    kept = (folder / source.name).resolve()
    page = kept.with_suffix(".html")
    nbformat.write(executed, kept)
    page.write_text(to_html(executed, source.stem), encoding="utf-8")
    print(f"\nExecuted notebook: {kept}\nThe same as a page: {page}")
    if failure:
        print(f"\nIt stopped before its end: {failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""``python -m verl_lab.reports NOTEBOOK``: run a notebook and keep it as a report."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from verl_lab.errors import VerlLabError
from verl_lab.reports.execute import execute
from verl_lab.reports.keep import keep, open_folder
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
    terminal = Terminal(sys.stdout)
    try:
        open_folder(folder)
        executed, failure = execute(source, workdir=source.resolve().parent, say=terminal.say, update=terminal.update)
        kept = keep(executed, folder.resolve(), source.stem, title=source.stem)
    except VerlLabError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted: no report was written.", file=sys.stderr)
        return 130
    print(f"\nExecuted notebook: {kept['ipynb']}\nThe same as a page: {kept['html']}")
    if failure:
        print(f"\nIt stopped before its end: {failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

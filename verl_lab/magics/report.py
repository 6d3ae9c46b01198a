"""``%verl_report``: a report on runs, or two reports compared."""

from __future__ import annotations

from typing import TYPE_CHECKING

from IPython.display import display  # pyright: ignore[reportUnknownVariableType]

from verl_lab.magics.line import MagicError, argument
from verl_lab.magics.progress import Line

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from IPython.display import DisplayHandle

    from verl_lab.lab import Lab, Run
    from verl_lab.lab.reports.difference import ReportDiff
    from verl_lab.lab.reports.reporting import Report

ARGUMENTS = (
    argument(
        "runs", metavar="RUN|PATH", nargs="*", help="up to six: ids, names, or paths of logs; default: the newest"
    ),
    argument("--baseline", metavar="RUN|PATH", help="compare with this run"),
    argument("--to", metavar="FOLDER", help="where to; default: reports, beside the notebook"),
    argument("--pdf", action="store_true", help="print it to a PDF too; needs Chromium or Chrome"),
    argument("--diff", nargs=2, metavar=("A", "B"), help="two reports (.ipynb), or runs: what differs between them"),
)


def report_line(lab: Lab, args: argparse.Namespace, find: Callable[[str | None], Run]) -> Report | ReportDiff:
    """Do what a line of ``%verl_report`` asks for; ``find`` returns a run by what a person calls it."""
    if args.diff:
        if args.runs or args.baseline or args.to or args.pdf:
            raise MagicError("--diff A B compares two reports, and makes none: leave the rest out.")
        return lab.diff_reports(*args.diff)
    runs = [find(named) for named in args.runs or [None]]
    baseline = None if args.baseline is None else find(args.baseline)
    formats = ("ipynb", "html", *(["pdf"] if args.pdf else []))
    told = Told()
    try:
        made = lab.report(runs, baseline=baseline, to=args.to, formats=formats, progress=told.say)
    except KeyboardInterrupt:
        told.say("Interrupted: no report was written.")
        raise MagicError("Interrupted: no report was written.") from None
    told.say(f"Report made: {len(made.files)} files.")
    return made


class Told:
    """One line in the cell that says how far a report is."""

    def __init__(self) -> None:
        self._handle: DisplayHandle | None = None

    def say(self, text: str) -> None:
        """Replace the line."""
        if self._handle is None:
            self._handle = display(Line(text), display_id=True)
        else:
            self._handle.update(Line(text))  # pyright: ignore[reportUnknownMemberType]

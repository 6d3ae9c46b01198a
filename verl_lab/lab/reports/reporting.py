"""``lab.report``: a notebook executed on some runs, kept as a notebook, as a page and as a PDF."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from verl_lab.errors import EnvironmentMismatchError, InvalidInputError, ReportError
from verl_lab.lab.reports.sections import RUNS_MOST, Sections
from verl_lab.lab.run import Run
from verl_lab.settings import Settings

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence

    from verl_lab.lab.lab import Lab

FOLDER = "reports"
_WORDS = {"ipynb": "Notebook", "html": "Page", "pdf": "PDF"}


@dataclass(frozen=True)
class Report:
    """Where a report lies; a notebook shows links.

    Attributes
    ----------
    files
        By format: ``ipynb``, ``html``, ``pdf``.
    runs
        Ids of the runs it is on.
    """

    files: Mapping[str, Path]
    runs: tuple[str, ...]

    def __repr__(self) -> str:
        return "\n".join(f"{_WORDS[kind]}: {path}" for kind, path in self.files.items())

    def _repr_html_(self) -> str:
        links = " · ".join(
            f'<a href="{escape(_address(path), quote=True)}" target="_blank">{_WORDS[kind]}</a>'
            for kind, path in self.files.items()
        )
        where = escape(str(next(iter(self.files.values())).parent))
        return f"<p>Report on {escape(', '.join(self.runs))}: {links}<br><small>in {where}</small></p>"


def sections(lab: Lab, runs: Run | str | Sequence[Run | str], baseline: Run | str | None) -> Sections:
    """Return the parts of a report on runs; see ``Lab.sections``."""
    chosen = [_found(lab, one) for one in ([runs] if isinstance(runs, (Run, str)) else runs)]
    against = None if baseline is None else _found(lab, baseline)
    ids = [run.id for run in chosen]
    if not 1 <= len(chosen) <= RUNS_MOST:
        raise InvalidInputError(f"runs: a report cannot be on {len(chosen)}.", f"Give 1 to {RUNS_MOST} runs.")
    twice = next(
        (one for one in [*ids, against and against.id] if one and [*ids, against and against.id].count(one) > 1), None
    )
    if twice is not None:
        raise InvalidInputError(f"runs: {twice} is given twice.", "Give different runs; the baseline is one more.")
    return Sections(lab, chosen, against)


def report(
    lab: Lab,
    runs: Run | str | Sequence[Run | str],
    *,
    baseline: Run | str | None,
    to: str | os.PathLike[str] | None,
    formats: Sequence[str],
    progress: Callable[[str], object] | None,
) -> Report:
    """Make a report; see ``Lab.report``."""
    asked = sections(lab, runs, baseline)
    try:
        from verl_lab.reports import TEMPLATE
        from verl_lab.reports.execute import execute
        from verl_lab.reports.keep import FORMATS, free_stem, keep, open_folder
        from verl_lab.reports.pdf import browser
    except ImportError as error:
        raise EnvironmentMismatchError(
            f"Reports need {error.name or 'packages'}, which is not installed here.",
            f"pip install {error.name or 'verl-lab'}",
        ) from error
    wanted = [formats] if isinstance(formats, str) else list(formats)
    unknown = next((one for one in wanted if one not in FORMATS), None)
    if unknown is not None or not wanted:
        raise InvalidInputError(f"formats: {unknown!r} is none.", f"They are {', '.join(FORMATS)}.")
    if "pdf" in wanted:
        browser()  # without one, nothing is begun
    folder = Path(FOLDER if to is None else to).expanduser().absolute()
    open_folder(folder)
    ids, names = asked.ids, asked.names
    executed, failure = execute(
        TEMPLATE,
        workdir=Path.cwd(),
        say=progress or (lambda _: None),
        parameters={"runs": ids, "baseline": asked.baseline_id, "home": _home(lab)},
    )
    if failure is not None:
        raise ReportError(
            f"The report stopped at {failure}",
            f"Nothing was written. The same call in a cell shows the whole error: verl_lab.Lab().sections({ids!r})",
        )
    stem = ids[0] if len(ids) == 1 else f"{ids[0]}-and-{len(ids) - 1}-more"
    title = f"Report: {', '.join(names)}"
    return Report(keep(executed, folder, free_stem(folder, stem), title=title, formats=wanted), tuple(ids))


def _found(lab: Lab, run: Run | str) -> Run:
    return run if isinstance(run, Run) else lab.run(run)


def _home(lab: Lab) -> str | None:
    """Return the lab's home where a kernel of its own would not find it by itself."""
    return None if Settings.resolve() == lab.settings else str(lab.settings.home)


def _address(path: Path) -> str:
    """Return what a notebook beside the kernel's folder can link to; elsewhere the file's own address."""
    try:
        return quote(str(path.relative_to(Path.cwd())))
    except ValueError:
        return path.as_uri()

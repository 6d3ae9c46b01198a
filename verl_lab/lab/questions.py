"""What a lab is asked about its runs: how they do, how they differ, where they came from, what to try next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from verl_lab.diagnostics import resolve_thresholds
from verl_lab.domain.host import LOCAL
from verl_lab.lab.diagnosis.backtest import Backtest, backtest
from verl_lab.lab.diagnosis.diagnoses import live, report
from verl_lab.lab.diagnosis.report import RunReports
from verl_lab.lab.launching.checks import problems_of
from verl_lab.recipes.presets import with_preset

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence

    from verl_lab.domain.recipe import Problem, Recipe
    from verl_lab.lab.comparing.diff import DiffTable, ShownDiff
    from verl_lab.lab.comparing.lineage import ShownLineage
    from verl_lab.lab.comparing.recommend import Recommendation
    from verl_lab.lab.comparing.sides import Thing
    from verl_lab.lab.lab import Lab
    from verl_lab.lab.launching.planned import PlannedRun
    from verl_lab.lab.reports.difference import ReportDiff
    from verl_lab.lab.reports.reporting import Report
    from verl_lab.lab.reports.sections import Sections
    from verl_lab.lab.run import Run


class Questions:
    """The part of ``Lab`` that changes nothing."""

    def diagnose(
        self, run: Run | str | None = None, *, step: int | None = None, thresholds: Mapping[str, Any] | None = None
    ) -> RunReports:
        """Say how healthy runs are, what is wrong with them, and what cannot be judged.

        Parameters
        ----------
        run
            A run, its id, prefix or name; None for all that are live, attached logs that were
            written to in the last ten minutes among them.
        step
            As it stood at this step; None for now.
        thresholds
            Changes to the rules' parameters for this call, by rule id; None takes those of each
            run's recipe.

        Raises
        ------
        NotFoundError
            There is no such run.
        InvalidInputError
            The thresholds are not acceptable.
        """
        lab = cast("Lab", self)
        resolve_thresholds(thresholds)
        chosen = live(lab) if run is None else [lab.run(run) if isinstance(run, str) else run]
        return RunReports(report(lab, one, step, thresholds) for one in chosen)

    def backtest(
        self,
        rules: Sequence[str] | None = None,
        runs: Sequence[Run | str] | None = None,
        thresholds: Mapping[str, Any] | None = None,
    ) -> Backtest:
        """Say what rules would have done on past runs: when they fire, what a stop saves, false alarms.

        Parameters
        ----------
        rules
            Rule ids; all rules by default.
        runs
            Runs, or ids, prefixes or names; all runs of this lab by default.
        thresholds
            Changes to the rules' parameters, by rule id; None takes those of each run's recipe.

        Raises
        ------
        NotFoundError
            There is no such rule or run.
        InvalidInputError
            The thresholds are not acceptable.
        """
        lab = cast("Lab", self)
        resolve_thresholds(thresholds)
        chosen = lab.runs() if runs is None else [lab.run(one) if isinstance(one, str) else one for one in runs]
        return backtest(lab, chosen, rules, thresholds)

    def validate(
        self, recipe: str | Recipe, overrides: Sequence[str] = (), *, preset: str | None = None
    ) -> list[Problem]:
        """Say everything that is wrong with a recipe before it is launched; verl and torch need not be installed.

        A reward function is called on a row of the data, in a process of its own.

        Parameters
        ----------
        recipe
            A recipe's name, or a recipe.
        overrides
            ``key=value`` for verl's configuration; they win over the recipe's.
        preset
            As for ``train``.

        Returns
        -------
        list of Problem
            Each with its key, value, why that will not do, and the nearest that will. Those of severity
            ``error`` refuse a launch and come first.

        Raises
        ------
        NotFoundError
            There is no such recipe or preset.
        """
        chosen = cast("Lab", self).recipes.get(recipe) if isinstance(recipe, str) else recipe
        return list(problems_of(chosen, with_preset(preset, chosen, overrides)))

    def diff(self, a: Thing, b: Thing) -> ShownDiff:
        """Return what leads from one run, recipe, configuration file or data set to another.

        Parameters
        ----------
        a, b
            A run or a recipe, or its name; the path of a YAML or JSON file; ``dataset:`` with a data set's name
            or hash. Of a run and a recipe of one name the recipe is meant, unless ``run:`` stands before it.

        Returns
        -------
        Diff
            ``added``, ``removed`` and ``changed`` by key; ``text()``, ``json()``, ``as_overrides()``,
            ``apply(a)``. A notebook shows it as a tree.

        Raises
        ------
        NotFoundError
            There is no such thing; the nearest are named.
        InvalidInputError
            The two cannot be compared.
        """
        from verl_lab.lab.comparing.diff import diff_things

        return diff_things(cast("Lab", self), a, b)

    def diff_table(self, things: Sequence[Thing]) -> DiffTable:
        """Return many runs or recipes as a table of the settings that are not the same in all; as for ``diff``."""
        from verl_lab.lab.comparing.diff import diff_table

        return diff_table(cast("Lab", self), things)

    def lineage(self, thing: Thing) -> ShownLineage:
        """Return what a thing was made from, and what came of it, over all runs of this lab.

        Parameters
        ----------
        thing
            A run or a recipe, or its name; the path of a file or folder that runs read or wrote; a data set, its
            name or its hash; or the id of a node, such as ``verl:0.9.1``.

        Raises
        ------
        NotFoundError
            There is no such thing.
        """
        from verl_lab.lab.comparing.lineage import lineage

        return lineage(cast("Lab", self), thing)

    def recommend(
        self, recipe_or_algorithm: str | Recipe, model: str | None = None, data: Sequence[str] | str | None = None
    ) -> Recommendation:
        """Return what worked best so far on the like of this, from this lab's own completed runs.

        Parameters
        ----------
        recipe_or_algorithm
            What is to be trained; what would be changed is said for it.
        model, data
            What it is to be trained on, where that is not what the recipe says: a model's folder or name, and
            training files or a data set's hash.

        Returns
        -------
        Recommendation
            Empty, with the reason, where no run says anything about it.

        Raises
        ------
        NotFoundError
            There is no such recipe or algorithm.
        """
        from verl_lab.lab.comparing.recommend import recommend

        return recommend(cast("Lab", self), recipe_or_algorithm, model, data)

    def matrix(
        self,
        recipe: str | Recipe,
        values: Mapping[str, Sequence[Any]],
        overrides: Sequence[str] = (),
        name: str | None = None,
        host: str = LOCAL,
    ) -> list[PlannedRun]:
        """Check a run for each combination of some settings' values; none is started.

        Parameters
        ----------
        recipe, overrides
            As for ``train``.
        values
            The values to try, by key.
        name
            What the names of the runs begin with; by default the recipe's name.
        host
            Where they would train.

        Raises
        ------
        InvalidConfigurationError
            One of the runs has problems.
        InvalidInputError
            There are none, or more than 100.
        """
        from verl_lab.lab.launching.again import matrix

        return matrix(cast("Lab", self), recipe, values, overrides, name, host)

    def report(
        self,
        runs: Run | str | Sequence[Run | str],
        *,
        baseline: Run | str | None = None,
        to: str | os.PathLike[str] | None = None,
        formats: Sequence[str] = ("ipynb", "html"),
        progress: Callable[[str], object] | None = None,
    ) -> Report:
        """Make a report on runs: a notebook, executed in a kernel of its own, and the same as a page to send around.

        Parameters
        ----------
        runs
            One run or up to six, or their ids, prefixes or names.
        baseline
            A run to compare them with.
        to
            The folder; by default ``reports`` beside the notebook. No earlier report there is written over.
        formats
            Some of ``ipynb``, ``html`` (one file that asks the network for nothing) and ``pdf`` (needs Chromium).
        progress
            Called with a line for each section that begins.

        Returns
        -------
        Report
            Where the files are; all of them are there, or none.

        Raises
        ------
        NotFoundError
            There is no such run.
        InvalidInputError
            A run is given twice, a format is none, or the folder cannot be written to.
        NoSpaceError
            There is no room in the folder.
        EnvironmentMismatchError
            What executes notebooks, or prints them, is not installed.
        ReportError
            A section failed; the message names it.
        """
        from verl_lab.lab.reports.reporting import report

        return report(cast("Lab", self), runs, baseline=baseline, to=to, formats=formats, progress=progress)

    def sections(self, runs: Run | str | Sequence[Run | str], baseline: Run | str | None = None) -> Sections:
        """Return the parts of a report, each a method: ``summary``, ``curves``, ``findings`` and so on.

        The cells of a report's notebook call them; any notebook can.

        Parameters
        ----------
        runs, baseline
            As for ``report``.
        """
        from verl_lab.lab.reports.reporting import sections

        return sections(cast("Lab", self), runs, baseline)

    def diff_reports(self, a: Run | str | os.PathLike[str], b: Run | str | os.PathLike[str]) -> ReportDiff:
        """Return what differs between two reports: in configuration, data, last and best values, and findings.

        Parameters
        ----------
        a, b
            The ``.ipynb`` of a report, whose runs need not be here; or a run, as a report would tell it now.

        Raises
        ------
        NotFoundError
            There is no such file or run.
        FormatError
            The file is no report.
        """
        from verl_lab.lab.reports.difference import diff_reports

        return diff_reports(cast("Lab", self), a, b)

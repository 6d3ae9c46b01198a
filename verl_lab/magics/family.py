"""The ``%verl_…`` family."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Any, cast

from IPython.core.magic import Magics, cell_magic, line_cell_magic, line_magic, magics_class

from verl_lab import inputs
from verl_lab.domain.host import LOCAL
from verl_lab.lab import Lab
from verl_lab.lab.hosts.room import room_notes
from verl_lab.magics import environment, hosts, recipe_lines, report
from verl_lab.magics.data import ARGUMENTS, Tables, Telling, show_data
from verl_lab.magics.demo import make_demo
from verl_lab.magics.line import MagicError, argument, arguments, thresholds_of
from verl_lab.magics.matrix import train_all, values_of
from verl_lab.magics.progress import wait_with_progress
from verl_lab.magics.tables import RunTable
from verl_lab.recipes.overrides import overrides_of_text
from verl_lab.recipes.presets import PRESETS, with_preset

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from IPython.core.interactiveshell import InteractiveShell

    from verl_lab.environments.verify import Report
    from verl_lab.errors import VerlLabError
    from verl_lab.lab import Run
    from verl_lab.lab.comparing.diff import DiffTable, ShownDiff
    from verl_lab.lab.comparing.lineage import ShownLineage
    from verl_lab.lab.comparing.recommend import Recommendation
    from verl_lab.lab.demo import Demo
    from verl_lab.lab.diagnosis.backtest import Backtest
    from verl_lab.lab.diagnosis.report import RunReport, RunReports
    from verl_lab.lab.reports.difference import ReportDiff
    from verl_lab.lab.reports.reporting import Report as MadeReport
    from verl_lab.lab.table import Table

_RUN = argument("run", metavar="RUN", help="run id, the beginning of one, or a run's name")
_OPTIONAL_RUN = argument("run", metavar="RUN", nargs="?", help="run id, its beginning, or a name; default: the newest")
_WAIT = argument("--wait", action="store_true", help="block, with a progress bar, until the run is over")


@magics_class
class VerlMagics(Magics):
    """The magics of one IPython shell, over one ``Lab`` that is made when first needed."""

    def __init__(self, shell: InteractiveShell) -> None:
        super().__init__(shell)
        self._lab: Lab | None = None
        self.last_error: VerlLabError | None = None
        self._seen_recipes: dict[str, str] = {}

    @property
    def lab(self) -> Lab:
        """The lab behind the magics."""
        if self._lab is None:
            self._lab = Lab()
            self._lab.datasets.progress = Telling()
        return self._lab

    def close(self) -> None:
        """End the lab's reader."""
        if self._lab is not None:
            self._lab.close()
            self._lab = None

    @line_magic
    @arguments(
        "verl_demo",
        "Make something to train at once: a tiny model that sorts five digits, its data, and recipes that every\n"
        "notebook knows. It takes seconds, and what is there already stays as it is.\n"
        "Then `%%verl_train sort-digits-grpo` trains by reinforcement, on this machine and without a GPU.",
    )
    def verl_demo(self, args: argparse.Namespace) -> Demo:
        """Make the demo."""
        del args
        return make_demo(self.lab)

    @line_cell_magic
    @arguments(
        "verl_train",
        "Launch verl on a recipe and watch it live. As %%verl_train, the cell holds more overrides:\n"
        "one key=value a line, or YAML. Returns the run: `run = %verl_train grpo-cpu`.",
        argument("recipe", metavar="RECIPE", nargs="?", help="a recipe's name; %%verl_recipes lists them"),
        argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="override verl's settings"),
        argument("--from", dest="parent", metavar="RUN", help="as this run was, with its recipe and overrides"),
        argument("--from-step", type=int, metavar="K", help="go on from that run's checkpoint of step K"),
        argument("--matrix", nargs="+", action="extend", default=[], metavar="KEY=A,B", help="a run for each value"),
        argument("--preset", choices=tuple(PRESETS), help="switch on all that the diagnosis can use"),
        argument("--name", help="what to call the run; default: the recipe's name"),
        argument("--host", default=LOCAL, help="train on this host; %%verl_hosts shows them; default: this machine"),
        argument("--dry-run", action="store_true", help="check everything, show the command, start nothing"),
        _WAIT,
    )
    def verl_train(self, args: argparse.Namespace, cell: str = "") -> Run | Sequence[Run]:
        """Launch a recipe."""
        overrides = [*args.set, *overrides_of_text(cell)]
        if args.recipe is None and args.parent is None:
            cast("Any", self.verl_train).parser.error("give a RECIPE, or --from RUN")
        if args.matrix:
            return self._train_matrix(args, overrides)
        run = self.lab.train(
            args.recipe,
            overrides,
            name=args.name,
            host=args.host,
            dry_run=args.dry_run,
            parent=args.parent,
            from_step=args.from_step,
            preset=args.preset,
        )
        if args.dry_run:
            return run
        for note in room_notes(run):
            print(note)
        return self._show(run, wait=args.wait)

    @line_magic
    @arguments(
        "verl_watch",
        "Show the live panel of a run, or of any verl log: the file of verl's `file` logger, a console log,\n"
        "a run folder.",
        argument("run", metavar="RUN|PATH", nargs="?", help="id, its beginning, name, or path; default: the newest"),
        argument("--metrics", nargs="+", default=[], metavar="METRIC", help="what to draw; default: what says most"),
        argument("--replay", action="store_true", help="show it again as it was, from its beginning"),
        argument("--speed", type=float, metavar="X", help="replay so many times faster: 0.1 to 100 (default: 1)"),
        argument("--start", type=int, metavar="N", help="replay from this step"),
        argument("--end", type=int, metavar="N", help="replay to this step"),
        _WAIT,
    )
    def verl_watch(self, args: argparse.Namespace) -> Run:
        """Watch a run, or replay it."""
        given = [name for name in ("speed", "start", "end") if getattr(args, name) is not None]
        if given and not args.replay:
            raise MagicError(f"--{given[0]} is for a replay: add --replay.")
        if args.replay and args.wait:
            raise MagicError("--wait waits for a run; a replay is not waited for. Leave one of them out.")
        run = self._find_or_attach(args.run)
        if not args.replay:
            return self._show(run, metrics=args.metrics, wait=args.wait)
        run.replay(args.metrics, speed=1.0 if args.speed is None else args.speed, start=args.start, end=args.end)
        return run

    @line_magic
    @arguments(
        "verl_compare",
        "Compare runs: their curves in the same charts, their last and best values, and what differs in their\n"
        "configuration.",
        argument("runs", metavar="RUN|PATH", nargs="+", help="two to seven: ids, their beginnings, names, or paths"),
        argument("--metrics", nargs="+", default=[], metavar="METRIC", help="what to draw; default: what says most"),
    )
    def verl_compare(self, args: argparse.Namespace) -> None:
        """Compare runs."""
        from verl_lab.lab.comparing.compare import compare
        from verl_lab.widgets.live import show

        show(compare(self.lab, [self._find_or_attach(named) for named in args.runs], args.metrics))

    @line_magic
    @arguments(
        "verl_diff",
        "Show what differs between two runs, recipes or configuration files; of more, a table of what is not the\n"
        "same in all. A name that a run and a recipe share is the recipe's: run:NAME is the run.",
        argument("things", metavar="RUN|RECIPE|PATH", nargs="+", help="two or more of them"),
        argument("--overrides", action="store_true", help="print key=value lines that lead from one to the other"),
    )
    def verl_diff(self, args: argparse.Namespace) -> ShownDiff | DiffTable | None:
        """Show differences."""
        if len(args.things) != 2:  # noqa: PLR2004  a difference is one between two
            return self.lab.diff_table(args.things)
        found = self.lab.diff(*args.things)
        if not args.overrides:
            return found
        print("\n".join(found.as_overrides()))
        return None

    @line_magic
    @arguments(
        "verl_data",
        "Add a data set and show what it is: rows, columns, splits, what is wrong with it. The same bytes are the\n"
        "same data set, wherever they lie. Without anything, list them.",
        *ARGUMENTS,
    )
    def verl_data(self, args: argparse.Namespace) -> Table | Tables:
        """Show data."""
        return show_data(self.lab, args)

    @line_magic
    @arguments(
        "verl_lineage",
        "Show what a thing was made from, and what came of it: a run, a recipe, a file, a data set.",
        argument("thing", metavar="THING", help="a run, a recipe, a path, a data set's name or hash"),
    )
    def verl_lineage(self, args: argparse.Namespace) -> ShownLineage:
        """Show a lineage."""
        return self.lab.lineage(args.thing)

    @line_magic
    @arguments(
        "verl_recommend",
        "Say what worked best so far, in your own completed runs, on the like of a recipe.",
        argument("recipe", metavar="RECIPE|ALGORITHM", help="what is to be trained"),
        argument("--model", metavar="MODEL", help="on this model; default: the recipe's"),
        argument("--data", metavar="PATH|HASH", nargs="+", help="on these training files; default: the recipe's"),
    )
    def verl_recommend(self, args: argparse.Namespace) -> Recommendation:
        """Recommend settings."""
        return self.lab.recommend(args.recipe, args.model, args.data)

    @line_magic
    @arguments("verl_runs", "List the runs, newest first.", argument("--all", action="store_true", help="more than 20"))
    def verl_runs(self, args: argparse.Namespace) -> RunTable:
        """List the runs."""
        return RunTable.of(self.lab.runs(), shown=None if args.all else 20)

    @line_magic
    @arguments(
        "verl_stop",
        "Stop a run: it saves a checkpoint after its present step, then ends.",
        _RUN,
        argument("--now", action="store_true", help="end it at once, without a checkpoint"),
        _WAIT,
    )
    def verl_stop(self, args: argparse.Namespace) -> None:
        """Stop a run."""
        run = self.lab.run(args.run).stop(now=args.now)
        if args.wait:
            wait_with_progress(run)
        else:
            how = "ends now" if args.now else "saves a checkpoint after this step and ends"
            print(f"{run.id} {how}. %verl_resume {run.id} goes on from there.")

    @line_magic
    @arguments("verl_resume", "Go on from a run's last checkpoint, as a new attempt of the same run.", _RUN, _WAIT)
    def verl_resume(self, args: argparse.Namespace) -> Run:
        """Resume a run."""
        return self._show(self.lab.run(args.run).resume(), wait=args.wait)

    @line_magic
    @arguments(
        "verl_logs",
        "Print the last lines of what training printed.",
        _OPTIONAL_RUN,
        argument("--tail", type=int, default=100, metavar="N", help="how many lines (default: 100)"),
    )
    def verl_logs(self, args: argparse.Namespace) -> None:
        """Print a run's log."""
        print(self._find_or_attach(args.run).logs(tail=args.tail), end="")

    @line_magic
    @arguments(
        "verl_health",
        "Show a run's health from 0 to 100, what it is made of, and what is wrong, with evidence and advice.",
        argument("run", metavar="RUN|PATH", nargs="?", help="id, its beginning, name, or path; default: the newest"),
        argument("--step", type=int, metavar="N", help="as it stood at this step; default: now"),
    )
    def verl_health(self, args: argparse.Namespace) -> RunReport:
        """Show a run's health."""
        return self.lab.diagnose(self._find_or_attach(args.run), step=args.step)[0]

    @line_magic
    @arguments(
        "verl_diagnose",
        "Read what runs have written up to now, and show their health: one run's, or that of all that are live.",
        argument("run", metavar="RUN|PATH", nargs="?", help="id, its beginning, name, or path; default: all live runs"),
    )
    def verl_diagnose(self, args: argparse.Namespace) -> RunReports:
        """Diagnose one run, or all that are live."""
        return self.lab.diagnose(None if args.run is None else self._find_or_attach(args.run))

    @line_magic
    @arguments(
        "verl_report",
        "Make a report on runs: a notebook, and the same as a page to send around, its charts alive offline.\n"
        "With --diff, say what differs between two reports.",
        *report.ARGUMENTS,
    )
    def verl_report(self, args: argparse.Namespace) -> MadeReport | ReportDiff:
        """Make a report, or compare two."""
        return report.report_line(self.lab, args, self._find_or_attach)

    @line_magic
    @arguments(
        "verl_backtest",
        "Show what rules would have done on past runs: when they fire, what a stop saves, and false alarms.",
        argument("rule", metavar="RULE", nargs="*", help="rule ids; default: all rules"),
        argument("--runs", metavar="RUN", nargs="+", help="ids, their beginnings, or names; default: all runs"),
        argument("--set", metavar="RULE.PARAMETER=VALUE", nargs="+", default=[], help="thresholds to try"),
    )
    def verl_backtest(self, args: argparse.Namespace) -> Backtest:
        """Try rules on past runs."""
        return self.lab.backtest(args.rule or None, args.runs, thresholds_of(args.set))

    @line_magic
    @arguments(
        "verl_recipes",
        "List the recipes, show one, or change what there is: fork, rename, delete, undo, export, import.",
        *recipe_lines.RECIPES,
    )
    def verl_recipes(self, args: argparse.Namespace) -> Table | None:
        """List, show and change recipes."""
        return recipe_lines.list_or_change(self.lab.recipes, args, self._seen_recipes)

    @cell_magic
    @arguments(
        "verl_recipe",
        "Save the cell, which is YAML, as a recipe, once it is found to be one, and say what that changes.",
        *recipe_lines.RECIPE,
    )
    def verl_recipe(self, args: argparse.Namespace, cell: str) -> None:
        """Save a recipe."""
        recipe_lines.save_cell(self.lab.recipes, args, cell, self._seen_recipes)

    @line_magic
    @arguments(
        "verl_hosts",
        "Show the hosts that runs can train on: what each has and does now, and where there is room. Or add, test and\n"
        "change those that are reached over SSH.",
        *hosts.ARGUMENTS,
    )
    def verl_hosts(self, args: argparse.Namespace) -> object:
        """Show and change hosts."""
        return hosts.hosts_line(self.lab, args)

    @line_magic
    @arguments(
        "verl_env",
        "Check what is installed, here or on a host, against what this version of verl-lab was tested with; with\n"
        "--setup, install it on the host.",
        *environment.ARGUMENTS,
    )
    def verl_env(self, args: argparse.Namespace) -> Report:
        """Check an environment, or set one up."""
        return environment.show_environment(self.lab, args)

    @line_magic
    @arguments("verl_debug", "Show the traceback of the last error that a magic told in short.")
    def verl_debug(self, args: argparse.Namespace) -> None:
        """Show the last error in full."""
        del args
        if self.last_error is None:
            print("No magic has failed in this session.")
        else:
            print("".join(traceback.format_exception(self.last_error)), end="")

    def _train_matrix(self, args: argparse.Namespace, overrides: Sequence[str]) -> Sequence[Run]:
        if args.recipe is None or args.parent is not None or args.from_step is not None:
            raise MagicError("--matrix needs a recipe, and cannot go with --from.")
        overrides = with_preset(args.preset, self.lab.recipes.get(args.recipe), overrides)
        planned = self.lab.matrix(args.recipe, values_of(args.matrix), overrides, args.name, args.host)
        return planned if args.dry_run else train_all(self.lab, args.recipe, planned)

    def _find_or_attach(self, named: str | None) -> Run:
        if named is None:
            runs = self.lab.runs()
            if not runs:
                raise MagicError("There are no runs yet. %verl_train RECIPE starts one; %verl_recipes lists recipes.")
            return self.lab.run(runs[0].id)
        return self.lab.attach(named) if inputs.is_path_here(named) else self.lab.run(named)

    def _show(self, run: Run, *, metrics: list[str] | None = None, wait: bool = False) -> Run:
        panel = run.watch(metrics or ())
        if wait:
            try:
                wait_with_progress(run)
            finally:
                panel.settle()
        return run

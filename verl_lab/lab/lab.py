"""``Lab``: the only place where the services are joined."""

from __future__ import annotations

import logging
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakKeyDictionary, WeakSet

from verl_lab import inputs
from verl_lab.domain.host import LOCAL
from verl_lab.domain.run import RunState
from verl_lab.domain.wire import RunLayout
from verl_lab.errors import FormatError, InvalidInputError, NotFoundError, TransportError
from verl_lab.lab.datasets import Datasets
from verl_lab.lab.demo import Demo, demo
from verl_lab.lab.diagnosis.diagnoses import Diagnoses
from verl_lab.lab.hosts.hosts import Hosts
from verl_lab.lab.launching.launch import Order, launch
from verl_lab.lab.overview import Overview
from verl_lab.lab.questions import Questions
from verl_lab.lab.run import Run
from verl_lab.lab.uses import Uses
from verl_lab.launch.launcher import Launcher
from verl_lab.recipes.book import RecipeBook
from verl_lab.settings import Settings
from verl_lab.store import RunRow, Store
from verl_lab.stream import Feed, FollowedRun, Reader, Reindexed, attached_run_id, find_logs, rebuild
from verl_lab.transport.local import LocalHost

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from typing_extensions import Self

    from verl_lab.datasets.fingerprint import Progress
    from verl_lab.domain.recipe import Recipe
    from verl_lab.stream import Log
    from verl_lab.transport.base import Host
    from verl_lab.widgets.live import LiveWidget
    from verl_lab.widgets.session import LiveSession

_logger = logging.getLogger(__name__)


class Lab(Questions):
    """Everything verl-lab does, as methods.

    Parameters
    ----------
    home
        Folder of runs, recipes and the index; by default ``VERL_LAB_HOME``, else the user's data
        folder. It is made when it does not exist.
    busy_s
        How many seconds whatever writes to the index waits for other writers before it raises ``StoreBusyError``.

    A lab owns one background reader thread and one database connection pool. ``close()`` ends both
    (so does leaving a ``with`` block); training goes on without them.
    """

    def __init__(self, home: str | os.PathLike[str] | None = None, *, busy_s: float = 30.0) -> None:
        self.settings = Settings.resolve(home)
        self.settings.home.mkdir(parents=True, exist_ok=True)
        self.settings.runs_root.mkdir(parents=True, exist_ok=True)
        self.host = LocalHost()
        self.store = Store.open(self.settings.database_url, busy_s=busy_s)
        self.feed = Feed()
        self.reader = Reader(self.store, self.feed)
        self.hosts = Hosts(self)
        self.datasets = Datasets(self)
        self.launcher = Launcher(self.host, str(self.settings.runs_root), python=sys.executable)
        self._launchers: WeakKeyDictionary[Host, Launcher] = WeakKeyDictionary()
        self.panels: WeakSet[LiveWidget | LiveSession] = WeakSet()
        self.diagnoses = Diagnoses(self)
        self.overview = Overview(self)
        self.uses = Uses(self)
        self._refused: set[str] = set()  # run folders that were passed over, and told of
        self._lock = threading.Lock()
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Lab({str(self.settings.home)!r})"

    def close(self) -> None:
        """End the reader and give back the database. Running training is not touched."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        for panel in list(self.panels):
            panel.end()
        self.overview.close()
        self.diagnoses.close()
        self.hosts.close()
        self.reader.close()
        self.store.close()

    @property
    def recipes(self) -> RecipeBook:
        """The recipes there are now: built-in, the user's, the project's beside the notebook."""
        versions = self.settings.home / "versions" / "recipes"
        return RecipeBook(user=self.settings.recipes_folder, project=Path.cwd(), versions=versions)

    def train(  # noqa: PLR0913  the published signature
        self,
        recipe: str | Recipe | None = None,
        overrides: Sequence[str] = (),
        name: str | None = None,
        host: str = "local",
        dry_run: bool = False,  # noqa: FBT001, FBT002  the published signature
        *,
        parent: Run | str | None = None,
        from_step: int | None = None,
        preset: str | None = None,
        progress: Progress | None = None,
    ) -> Run:
        """Check a recipe, launch verl on it, and return the run at once.

        Parameters
        ----------
        recipe
            A recipe's name, or a recipe; None for the parent's, with its overrides.
        overrides
            ``key=value`` for verl's configuration; they win over the recipe's.
        name
            What to call the run; by default the recipe's name. The id of an existing run gives that
            run, and starts nothing.
        host
            Where to train: one of ``lab.hosts``; ``"local"`` is this machine. Data, model and reward function are
            sent there, unless that was done before; so are the modules of yours that the reward function and the
            callbacks import, from the folder of the launch and from ``PYTHONPATH``. Other files that they read are not.
        dry_run
            Check and resolve everything, write and start nothing.
        parent
            The run that this one comes from: its recipe is used again, with changes.
        from_step
            Go on from the parent's checkpoint of this step, its optimiser and place in the data included.
        preset
            ``"diagnosable"`` switches on what verl leaves off and the diagnosis lives on: validation,
            checkpoints, samples and the distance to the reference model.
        progress
            Called while something is sent to a host: with what it is, how many bytes are there, and how many it has.

        Raises
        ------
        NotFoundError
            No such recipe, host, parent, checkpoint or preset.
        InvalidConfigurationError
            The configuration has problems; all of them are listed.
        EnvironmentMismatchError
            What is installed on the host is not what this release trains with; ``lab.hosts.setup`` mends it.
        TransportError
            The host was not reached, or has no room. What was sent stays there for the next call.
        LaunchError
            The run could not be started.
        """
        order = Order(recipe, overrides, name, host, dry_run, parent, from_step, preset)
        return launch(self, order, progress)

    def demo(self, progress: Callable[[str], object] | None = None) -> Demo:
        """Make something to train at once: a tiny model that sorts five digits, its data, and recipes for it.

        It lies in ``demo`` in the lab's home, its recipes among the user's. What is there already stays as it is.

        Parameters
        ----------
        progress
            Called with a line for each thing that is made.

        Raises
        ------
        EnvironmentMismatchError
            What trains is not installed here; the hint says what to install.
        TransportError
            It cannot be written.
        """
        return demo(self, progress)

    def launcher_on(self, host: str) -> Launcher:
        """Return what starts and stops runs on a host.

        Raises
        ------
        NotFoundError
            There is no such host.
        """
        if host == LOCAL:
            return self.launcher
        reached = self.hosts.get(host)
        found = self._launchers.get(reached)
        if found is None:
            found = self._launchers[reached] = Launcher(
                reached,
                lambda: f"{self.hosts.root(host)}/runs",
                python=self.hosts.python(host) or "python3",
                is_far=True,
                records=self.settings.home / "records",
            )
        return found

    def runs(self) -> list[Run]:
        """Return every run of this lab, newest first, runs other processes started included."""
        self.discover()
        return [self.found(row) for row in self.store.runs.list()]

    def found(self, row: RunRow) -> Run:
        """Return the run of a row of the index; it is not followed by that."""
        return Run(self, row.id, row.folder, row.host)

    def run(self, id_or_prefix: str) -> Run:
        """Return one run by its id, by the beginning of its id, or by its name (the newest of that name).

        Raises
        ------
        NotFoundError
            No run matches; the nearest are named.
        InvalidInputError
            Several ids begin so.
        """
        self.discover()
        rows = self.store.runs.list()
        found = [r for r in rows if r.id == id_or_prefix] or [r for r in rows if r.name == id_or_prefix][:1]
        if not found and id_or_prefix:
            found = [r for r in rows if r.id.startswith(id_or_prefix)]
        if len(found) > 1:
            raise InvalidInputError(
                f"run: {id_or_prefix!r} is the beginning of {len(found)} run ids.",
                f"Give more of it: {', '.join(r.id for r in found[:5])}.",
            )
        if not found:
            known = [r.id for r in rows] + [r.name for r in rows]
            raise NotFoundError.of("run", id_or_prefix, known, "%verl_runs lists them." if rows else "No runs yet.")
        run = self.found(found[0])
        run.follow()
        return run

    def run_of(self, run_id: str) -> Run:
        """Return the run of exactly this id, which is not followed by that.

        Raises
        ------
        NotFoundError
            There is none.
        """
        row = self.store.runs.get(run_id)
        if row is None:
            self.discover()
            row = self.store.runs.get(run_id)
        if row is None:
            raise NotFoundError.of("run", run_id, self.store.runs.ids())
        return self.found(row)

    def attach(self, path: str | os.PathLike[str]) -> Run:
        """Watch a verl run that something else started, from what it writes.

        Parameters
        ----------
        path
            The file of verl's ``file`` logger, a console log, a TensorBoard event file or the folder of
            some, a run folder, or a folder with one of these somewhere in it.

        Returns
        -------
        Run
            After its first sync: what the file holds now can be read.

        Raises
        ------
        NotFoundError
            There is nothing at ``path``.
        FormatError
            It is none of these.
        InvalidInputError
            It is a folder of several logs: ``attach_all`` takes them all.
        """
        logs = self._logs(path)
        if len(logs) > 1:
            named = ", ".join(log.path for log in logs[:5]) + (" …" if len(logs) > 5 else "")  # noqa: PLR2004  as above
            raise InvalidInputError(
                f"path: {path} holds {len(logs)} logs.", f"Give one of them, or lab.attach_all() for all: {named}"
            )
        return self._attach(logs[0])

    def attach_all(self, path: str | os.PathLike[str]) -> list[Run]:
        """Watch every log in a folder and the folders below it, as ``attach`` does one; by path."""
        return [self._attach(log) for log in self._logs(path)]

    def _logs(self, path: str | os.PathLike[str]) -> list[Log]:
        return find_logs(self.host, str(inputs.path_here("path", path).absolute()))

    def _attach(self, log: Log) -> Run:
        if log.format == "run":
            folder = Path(log.path)
            self.register(folder.name, log.path)
            return self.run(folder.name)
        run_id = attached_run_id(log.path)
        if self.store.runs.get(run_id) is None:
            self.store.runs.upsert(
                RunRow(
                    id=run_id,
                    name=Path(log.path).name,
                    folder=log.path,
                    host=self.host.name,
                    kind="attached",
                    state=RunState.ATTACHED.value,
                    created=time.time(),
                )
            )
        return self.run(run_id)

    def reindex(self) -> Reindexed:
        """Build the index anew from what the runs wrote: run folders, and attached logs where they still are.

        One run after the other: its old rows serve until its new ones are complete, and training,
        readers and other notebooks go on meanwhile.

        Returns
        -------
        Reindexed
            ``rebuilt``: the ids of the runs read anew. ``kept``: by id, why the others were left as
            they were, such as a folder that is gone.
        """
        self.discover()
        done = Reindexed()
        for row in self.store.runs.list():
            try:
                host = self.hosts.get(row.host)
                if row.kind == "run" and host.stat(str(RunLayout(Path(row.folder)).record)) is not None:
                    self.register(row.id, row.folder, row.host)
            except (NotFoundError, TransportError) as error:  # its host is away, or not in the list any more
                done.kept[row.id] = error.message
                continue
            rebuild(self.store, FollowedRun(row.id, host, row.folder, row.kind), done)
        return done

    def follow(self, row: RunRow) -> None:
        """Let the background reader keep the store up to date with a run; not where its host is in the list no more."""
        if row.host != LOCAL and row.host not in self.hosts.names():
            return
        self.reader.follow(FollowedRun(row.id, self.hosts.get(row.host), row.folder, row.kind))

    def discover(self) -> None:
        """Take in run folders that the index does not know: the folders are the truth."""
        known = set(self.store.runs.ids())
        for name in self.host.list_folder(str(self.settings.runs_root)):
            folder = self.settings.runs_root / name
            if name not in known and self.host.stat(str(RunLayout(folder).record)) is not None:
                try:
                    self.register(name, str(folder))
                except (FormatError, InvalidInputError) as error:  # one that is damaged hides none of the others
                    if name not in self._refused:
                        _logger.warning("The run folder %s is passed over: %s", folder, error.message)
                    self._refused.add(name)

    def register(self, run_id: str, folder: str, host: str = LOCAL) -> None:
        """Take a run folder into the index."""
        record = self.launcher_on(host).read_record(folder)
        given: object = record.get("recipe")
        recipe: dict[str, Any] = cast("dict[str, Any]", given) if isinstance(given, dict) else {}
        created: object = record.get("created")
        self.store.runs.upsert(
            RunRow(
                id=run_id,
                name=str(record.get("name", run_id)),
                folder=folder,
                host=host,
                kind="run",
                algorithm=record.get("algorithm"),
                recipe=recipe.get("name"),
                state=RunState.CREATED.value,
                total=record.get("total_steps"),
                created=float(created) if isinstance(created, int | float) else time.time(),
            )
        )

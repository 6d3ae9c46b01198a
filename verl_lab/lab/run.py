"""``Run``: one run, by its id, wherever it was started."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from verl_lab.domain.host import LOCAL
from verl_lab.errors import InvalidInputError, NotFoundError
from verl_lab.lab import files
from verl_lab.lab.found import FoundRun
from verl_lab.store import of_events
from verl_lab.stream import find_logs

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from verl_lab.datasets.fingerprint import Progress
    from verl_lab.domain.finding import Finding, Health
    from verl_lab.domain.run import RunState
    from verl_lab.domain.wire import EventRecord
    from verl_lab.widgets.panel import Panel
    from verl_lab.widgets.source import PanelSource, Player

_POLL_S = 0.25


class Run(FoundRun):
    """One run. Get it from ``lab.train``, ``lab.run``, ``lab.runs`` or ``lab.attach``.

    Attributes
    ----------
    id
        Sorts by time; safe as a path and in a shell.
    folder
        Where the run's files lie on its host (for an attached log, the log itself).
    host_name
        Which machine that is; ``local`` is this one.
    """

    _shown_in: int | None = None

    def _ipython_display_(self) -> None:
        """Show the panel as a cell's result, unless the same cell has just shown it."""
        from IPython.core.getipython import get_ipython

        shell = get_ipython()
        if shell is None or not hasattr(shell, "kernel"):
            print(repr(self))
        elif shell.execution_count != self._shown_in:
            self.watch()

    def wait(self, timeout_s: float | None = None) -> RunState:
        """Wait until the run is over and everything it wrote is in the index.

        Parameters
        ----------
        timeout_s
            Give up waiting after so many seconds; the run goes on. None waits for good.

        Returns
        -------
        RunState
            The state at the end of waiting: a live one means that the time was up.

        Raises
        ------
        InvalidInputError
            For an attached log: its end is not recorded.
        """
        self._refuse_attached("wait")
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while not (state := self.state).is_over:
            if deadline is not None and time.monotonic() >= deadline:
                return state
            time.sleep(_POLL_S)
        self.sync()
        return state

    def metric_names(self) -> list[str]:
        """Return the names of every metric the run has logged, sorted, then of what was measured of its host."""
        self.catch_up()
        metrics = self._lab.store.metrics
        return metrics.names(self.id) + metrics.system_names(self.id)

    def metrics(
        self, name: str, start_step: int | None = None, end_step: int | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return one metric over the steps.

        Parameters
        ----------
        name
            The metric's key in verl's log.
        start_step, end_step
            First and last step wanted, both included; None is the beginning and the end.

        Returns
        -------
        steps : int64 array, shape (n,)
            Increasing. After a resume the newest attempt's value of a step counts.
        values : float64 array, shape (n,)
            Both are read-only: copy them to change them.

        Raises
        ------
        NotFoundError
            The run logs no such metric; the nearest are named.
        """
        self.catch_up()
        found = self._lab.store.metrics.read(self.id, name, start_step, end_step)
        if not len(found[0]):
            known = self.metric_names()
            if name not in known:
                raise NotFoundError.of("metric", name, known, f"{self.id} logs {len(known)} metrics.")
        return found

    def frame(
        self,
        names: str | Sequence[str] | None = None,
        start_step: int | None = None,
        end_step: int | None = None,
        points: int | None = None,
        kind: str = "pandas",
    ) -> Any:
        """Return one or many metrics as a table, one row a step.

        Parameters
        ----------
        names
            Metrics' keys in verl's log, or names that begin with ``system/``; by default all that were logged.
        start_step, end_step
            First and last step wanted, both included.
        points
            About how many rows to keep, at least 8: those of minima, maxima and gaps. None keeps all.
        kind
            ``"pandas"`` (a DataFrame over the steps), ``"arrow"`` (a pyarrow Table) or ``"numpy"`` (a
            dictionary of arrays, ``"step"`` among them). Where a metric was not logged it is NaN; in
            Arrow it is null.

        Raises
        ------
        NotFoundError
            The run logs no such metric; the nearest are named.
        InvalidInputError
            ``points`` or ``kind`` is none.
        EnvironmentMismatchError
            pandas or pyarrow is not installed.
        """
        known = self.metric_names()
        logged = self._lab.store.metrics.names(self.id)
        chosen = logged if names is None else [names] if isinstance(names, str) else list(names)
        for name in chosen:
            if name not in known:
                raise NotFoundError.of("metric", name, known, f"{self.id} logs {len(known)} metrics.")
        return self._lab.store.metrics.frame(self.id, chosen, start_step, end_step, points).to(kind)

    def system(self, names: Sequence[str] | None = None, kind: str = "pandas") -> Any:
        """Return what the training host was measured to do as a table, one row a sample, by time.

        ``metrics`` and ``frame`` give the same by step: the mean of a step's samples, of memory and heat the worst.

        Parameters
        ----------
        names
            Some of the names that begin with ``system/``; all of them by default.
        kind
            As for ``frame``. Unix time, attempt and the step in work (0 before the first) stand beside the values.

        Raises
        ------
        NotFoundError
            The host was not measured, or not that; an event ``not_measured`` or ``sampling_failed`` says why.
        """
        self.catch_up()
        metrics = self._lab.store.metrics
        known = metrics.system_names(self.id)
        for name in known if names is None else names:
            if name not in known:
                raise NotFoundError.of("system metric", name, known, 'run.event_frame("not_measured") may say why.')
        return metrics.sample_frame(self.id, known if names is None else list(names)).to(kind)

    def event_frame(
        self,
        name: str | None = None,
        start_step: int | None = None,
        end_step: int | None = None,
        kind: str = "pandas",
    ) -> Any:
        """Return events as a table, oldest first: attempt, source, seq, time, kind, step and data.

        Parameters
        ----------
        name
            Only events of this kind, such as ``"checkpoint_saved"``.
        start_step, end_step, kind
            As for ``frame``; with a range of steps, events without a step are left out.
        """
        self.catch_up()
        found = self._lab.store.events.read(self.id, name, start_step=start_step, end_step=end_step)
        return of_events(found).to(kind)

    def events(self) -> list[EventRecord]:
        """Return what happened to the run besides steps, oldest first."""
        self.catch_up()
        return list(self._lab.store.events.read(self.id))

    def logs(self, tail: int | None = 100) -> str:
        """Return the last ``tail`` lines that training printed in its newest attempt; None is all of them.

        Raises
        ------
        InvalidInputError
            ``tail`` is no number of lines, or the run is known from TensorBoard's files: they hold none.
        """
        if tail is not None and tail < 1:
            raise InvalidInputError(f"tail: {tail} is not a number of lines.", "Give 1 or more, or None for all.")
        if self.is_attached and find_logs(self.host, self.folder)[0].format == "tensorboard":
            raise InvalidInputError(
                f"logs: {self.folder} holds TensorBoard's event files, and they no text.",
                "Attach the console log of the run to read it.",
            )
        path = self.folder if self.is_attached else str(self._attempt().log)
        return files.last_lines(self.host, path, tail)

    def samples(self, step: int | None = None, kind: str = "validation") -> list[dict[str, Any]]:
        """Return the samples verl dumped at one step.

        Parameters
        ----------
        step
            The trainer's step; the last one dumped if None.
        kind
            ``"validation"`` or ``"rollout"``.

        Returns
        -------
        list of dict
            With verl's keys: ``input, output, gts, score, step`` and what the reward adds.

        Raises
        ------
        NotFoundError
            None were dumped, or not at that step.
        """
        self._refuse_attached("samples")
        return files.read_samples(self.host, self._attempts(), step, kind)

    def findings(self, step: int | None = None) -> list[Finding]:
        """Return what is wrong with the run: what is active first, then by severity and age.

        Parameters
        ----------
        step
            As it stood at this step; None for now.
        """
        return self._lab.diagnoses.of(self).ask(lambda diagnosis: list(diagnosis.findings(step)))

    def health(self, step: int | None = None) -> Health:
        """Return the score from 0 to 100 with what it is made of; ``step`` as for ``findings``."""
        return self._lab.diagnoses.of(self).ask(lambda diagnosis: diagnosis.health(step))

    def not_applicable(self) -> dict[str, str]:
        """Return the rules that say nothing about this run, each with the reason."""
        return self._lab.diagnoses.of(self).ask(lambda diagnosis: diagnosis.not_applicable())

    def model_path(self, step: int | None = None) -> str:
        """Return the folder of a checkpoint's weights in Hugging Face form, for the next stage's model path.

        Parameters
        ----------
        step
            Which checkpoint; the last one if None.

        Raises
        ------
        NotFoundError
            There is no such checkpoint, or it holds no weights in this form.
        """
        self._refuse_attached("model_path")
        return files.model_path(self.host, self.layout, step)

    def fetch_model(
        self, step: int | None = None, to: str | os.PathLike[str] | None = None, progress: Progress | None = None
    ) -> Path:
        """Bring a checkpoint's model in Hugging Face form to this machine, and return its folder here.

        Only what is not here yet is fetched; it is complete and as it is there, or not there at all.

        Parameters
        ----------
        step
            Which checkpoint; the last one if None.
        to
            The folder to make; by default one of the lab's. For a run of this machine it is the run's own.
        progress
            Called with what is fetched, how many bytes are here, and how many there are.

        Raises
        ------
        NotFoundError
            There is no such checkpoint, or it holds no weights in this form.
        TransportError
            The host was not reached, or there is no room here.
        """
        from verl_lab.lab.fetching import fetch_model

        return self._fetch(fetch_model, step, to, progress)

    def fetch_checkpoint(
        self, step: int | None = None, to: str | os.PathLike[str] | None = None, progress: Progress | None = None
    ) -> Path:
        """Bring a checkpoint that training can go on from to this machine; otherwise as ``fetch_model``."""
        from verl_lab.lab.fetching import fetch_checkpoint

        return self._fetch(fetch_checkpoint, step, to, progress)

    def stop(self, *, now: bool = False) -> Run:
        """Ask the run to end: it saves a checkpoint after its present step, then stops.

        Asked again while it is stopping, or with ``now``, it is ended at once without a checkpoint.

        Raises
        ------
        InvalidInputError
            The run is over, or is an attached log.
        """
        self._refuse_attached("stop")
        self.launcher.stop(self.folder, now=now)
        return self._changed()

    def resume(self) -> Run:
        """Go on from the last checkpoint, as a new attempt of the same run.

        Raises
        ------
        InvalidInputError
            The run is live, has reached its last step, is an attached log, or its data are gone or changed.
        """
        from verl_lab.lab.launching.launch import go_on

        self._refuse_attached("resume")
        go_on(self._lab, self)
        self.follow()
        return self._changed()

    def watch(self, metrics: Sequence[str] = ()) -> Panel:
        """Show the live panel in the present cell.

        Parameters
        ----------
        metrics
            Which metrics to draw; by default the ones that say most about the run.
        """
        from verl_lab.lab.view import RunView

        return self._show(RunView(self._lab, self), metrics)

    def replay(
        self,
        metrics: Sequence[str] = (),
        *,
        speed: float = 1.0,
        start: int | None = None,
        end: int | None = None,
    ) -> Panel:
        """Show the run again as it was, from step ``start`` to ``end``: see ``lab.replay.Replay``."""
        from verl_lab.lab.diagnosis.replay import Replay
        from verl_lab.lab.view import RunView

        replay = Replay(RunView(self._lab, self), speed=speed, start=start, end=end)
        panel = self._show(replay, metrics, player=replay)
        replay.play()
        return panel

    def _show(self, source: PanelSource, metrics: Sequence[str], player: Player | None = None) -> Panel:
        from verl_lab.lab.showing import present_cell, show_panel

        self._shown_in = present_cell()
        return show_panel(self._lab, source, metrics, self.metric_names() if metrics else [], player)

    def _changed(self) -> Run:
        """See at once what was done to a run elsewhere; the word of its host comes a moment later."""
        return self if self.host_name == LOCAL else self.sync()

    def _fetch(
        self, fetch: Callable[..., Path], step: int | None, to: str | os.PathLike[str] | None, progress: Progress | None
    ) -> Path:
        self._refuse_attached("fetch")
        python = self._lab.hosts.python(self.host_name)
        return fetch(self, step, to, home=self._lab.settings.home, python=python, progress=progress)

"""What a panel needs to know of a run; the panel knows nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from verl_lab.domain.run import RunState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from verl_lab.domain.finding import Finding, Health


@dataclass(frozen=True)
class Playback:
    """Where a replay stands.

    Attributes
    ----------
    first, last
        The steps it begins and ends at.
    position
        The newest step that is shown.
    speed
        How many times faster than the run itself was.
    is_playing
        Whether it moves by itself.
    is_timed
        Whether the log says when its steps were; without that a step takes a second.
    """

    first: int
    last: int
    position: int
    speed: float
    is_playing: bool
    is_timed: bool = True


@dataclass(frozen=True)
class PanelHeader:
    """Where a run stands, at one moment.

    Attributes
    ----------
    run_id, name
        The run's id, and what a person calls it.
    state
        A ``RunState`` as text.
    reason
        Why the state is what it is; None where the state speaks for itself.
    phase
        What the trainer does now, in words; None when it is over.
    step, total
        Last finished step and the last one planned; None while unknown.
    elapsed_s, remaining_s
        Seconds since training was started, and until it should end; None while unknown.
    host
        The machine that trains.
    recipe
        The recipe the run was made from; None where there is none.
    can_stop, can_resume
        Which buttons make sense now.
    notice
        Something a person should read, such as an error of the reader.
    playback
        Where the replay stands; None for a run that is shown as it is now.
    """

    run_id: str
    name: str
    state: str
    reason: str | None = None
    phase: str | None = None
    step: int | None = None
    total: int | None = None
    elapsed_s: float | None = None
    remaining_s: float | None = None
    host: str = "local"
    recipe: str | None = None
    can_stop: bool = False
    can_resume: bool = False
    notice: str | None = None
    playback: Playback | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come unless the run is resumed, or the replay is moved."""
        if self.playback is not None:
            return self.playback.position >= self.playback.last
        return RunState(self.state).is_over

    @property
    def is_live(self) -> bool:
        """Whether a process works on the run, so that its clock ticks."""
        return self.playback is None and RunState(self.state).is_live


@dataclass(frozen=True)
class Sample:
    """One response.

    Attributes
    ----------
    response
        What the model wrote.
    score
        What the reward gave it; None where that is no number.
    expected
        The reference answer; None where there is none.
    """

    response: str
    score: float | None = None
    expected: str | None = None


@dataclass(frozen=True)
class SampleGroup:
    """A prompt and the responses to it: in GRPO the group whose scores are compared."""

    prompt: str
    samples: tuple[Sample, ...]


@dataclass(frozen=True)
class SampleSheet:
    """The samples of one step.

    Attributes
    ----------
    kind, step
        ``validation`` or ``rollout``, and the step.
    steps
        The steps there are samples of, by kind.
    groups
        In the order verl wrote them.
    """

    kind: str
    step: int
    steps: Mapping[str, Sequence[int]]
    groups: tuple[SampleGroup, ...]


class Curves(Protocol):
    """Metrics of a run or of one of its attempts. All methods may be called from any thread."""

    def metric_names(self) -> list[str]:
        """Return the metrics logged so far, in the order to list them."""
        ...

    def series(self, name: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return steps and values of one metric, both of shape ``(n_steps,)``; empty if there is none."""
        ...

    def moments(self, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Return when each value of a metric was measured, in unix time, and the values; None where it has steps."""
        ...

    def clock(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return steps and when they were logged, in unix time; empty if the log does not say."""
        ...


class PanelSource(Curves, Protocol):
    """A run as a panel sees it. All methods may be called from any thread."""

    def header(self) -> PanelHeader:
        """Say where the run stands now."""
        ...

    def subscribe(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Call ``changed``, from any thread, when anything may differ; return the unsubscribe."""
        ...

    def findings(self, step: int | None = None) -> Sequence[Finding]:
        """Return the findings, active ones first, then by severity and age; as of ``step``, None for now."""
        ...

    def health(self, step: int | None = None) -> Health:
        """Return the health score with its breakdown; as of ``step``, None for now."""
        ...

    def not_applicable(self) -> Mapping[str, str]:
        """Return the rules that say nothing about this run, each with the reason."""
        ...

    def samples(self, step: int | None, kind: str) -> SampleSheet:
        """Return the samples of a step; the last one dumped if None. ``kind``: ``validation`` or ``rollout``."""
        ...

    def log(self, tail: int) -> str:
        """Return the last ``tail`` lines that training printed."""
        ...

    def config(self) -> Mapping[str, Any]:
        """Return verl's resolved configuration, as nested mappings; empty if it is not known."""
        ...

    def others(self) -> Mapping[str, str]:
        """Return what can be laid over this run's curves, other runs and its own attempts: id to name."""
        ...

    def other(self, other_id: str) -> Curves:
        """Return the curves of one of ``others``."""
        ...

    def sync(self) -> None:
        """Read everything the run has written up to now."""
        ...

    def diagnose(self) -> None:
        """Judge the run anew, from its beginning."""
        ...

    def stop(self) -> None:
        """Ask the run to save and stop; while it is stopping: stop it now."""
        ...

    def resume(self) -> None:
        """Go on from the last checkpoint."""
        ...


class Player(Protocol):
    """What moves a replay. All methods may be called from any thread."""

    def play(self) -> None:
        """Move by itself; at the end, from the beginning again."""
        ...

    def pause(self) -> None:
        """Stand still."""
        ...

    def seek(self, step: int) -> None:
        """Show the run as it stood at ``step``."""
        ...

    def advance(self, by: int) -> None:
        """Go on, or back, by so many logged steps, and stand still."""
        ...

    def set_speed(self, speed: float) -> None:
        """Play so many times faster than the run itself was."""
        ...

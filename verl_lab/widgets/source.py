"""What a live panel needs to know of a run; the panel knows nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from verl_lab.domain.run import RunState

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray


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

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come unless the run is resumed."""
        return RunState(self.state).is_over

    @property
    def is_live(self) -> bool:
        """Whether a process works on the run, so that its clock ticks."""
        return RunState(self.state).is_live


class PanelSource(Protocol):
    """A run as a panel sees it. All methods may be called from any thread."""

    def header(self) -> PanelHeader:
        """Say where the run stands now."""
        ...

    def metric_names(self) -> list[str]:
        """Return the metrics logged so far, in the order to list them."""
        ...

    def series(self, name: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return steps and values of one metric, both of shape ``(n_steps,)``."""
        ...

    def subscribe(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Call ``changed``, from any thread, when anything above may differ; return the unsubscribe."""
        ...

    def stop(self) -> None:
        """Ask the run to save and stop; while it is stopping: stop it now."""
        ...

    def resume(self) -> None:
        """Go on from the last checkpoint."""
        ...

"""Which attempt counts at which step: after a resume from step k, older attempts' later steps are masked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import bindparam, func, insert, select, update

from verl_lab.store import tables

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from verl_lab.domain.wire import MetricRecord
    from verl_lab.store.blocks import Part

_a = tables.attempts.c
_ALL = (
    select(_a.attempt, _a.generation, _a.resumed_from, _a.first_step)
    .where(_a.run == bindparam("run"))
    .order_by(_a.attempt)
)


@dataclass(frozen=True)
class Attempt:
    """One attempt of a run, as far as it shows.

    Attributes
    ----------
    generation
        The generation of its metrics that counts.
    last_step
        Steps after this one are masked by a later attempt; None if none are.
    """

    number: int
    generation: int
    last_step: int | None


def visible(connection: Connection, run: int) -> list[Attempt]:
    """Return the attempts of a run, oldest first, with what later ones leave of them."""
    rows = connection.execute(_ALL, {"run": run}).all()
    found: list[Attempt] = []
    limit: int | None = None
    for attempt, generation, resumed_from, first_step in reversed(rows):
        found.append(Attempt(attempt, generation, limit))
        # A log that does not say where it went on from goes on before its own first step.
        cut = resumed_from if resumed_from is not None else None if first_step is None else first_step - 1
        if cut is not None:
            limit = cut if limit is None else min(limit, cut)
    return found[::-1]


def record(connection: Connection, part: Part, *, first: MetricRecord | None, resumed_from: int | None) -> bool:
    """Note what a stretch of an attempt's file says about the attempt.

    Parameters
    ----------
    first
        The first metric record of the stretch, if it has any.
    resumed_from
        The step the attempt says it went on from, if it does.

    Returns
    -------
    bool
        Whether values that were visible may be masked now, or the other way round.
    """
    table = tables.attempts
    mine = (table.c.run == part.run) & (table.c.attempt == part.attempt)
    row = connection.execute(
        select(table.c.generation, table.c.resumed_from, table.c.first_step).where(mine)
    ).one_or_none()
    known = (0, None, None) if row is None else tuple(row)
    generation, origin, first_step = known
    if first is not None:
        if part.generation != generation or first_step is None:
            first_step = _first_step(first)
        generation = part.generation
    if resumed_from is not None:
        origin = resumed_from
    found = (generation, origin, first_step)
    if found != known:
        values = {"generation": generation, "resumed_from": origin, "first_step": first_step}
        if row is None:
            connection.execute(insert(table).values(run=part.run, attempt=part.attempt, **values))
        else:
            connection.execute(update(table).where(mine).values(**values))
    if generation != known[0]:
        return True
    if found == known and first is None:
        return False
    others = connection.execute(
        select(func.count(), func.max(table.c.attempt)).where((table.c.run == part.run) & ~mine)
    ).one()
    # Beside other attempts, a mask may have moved; a stretch of an older one may lie behind the mask already.
    return others[0] > 0 and (found != known or others[1] > part.attempt)


def _first_step(first: MetricRecord) -> int:
    # verl validates before training: on resuming from step k, the first record is step k again and holds
    # validation alone (verl/trainer/ppo/ray_trainer.py, fit). What was trained in step k must stay.
    validation = bool(first.data) and all(name.startswith("val") for name in first.data)
    return first.step + 1 if validation and first.step > 0 else first.step

"""Who wants to hear what runs do, and telling them."""

from __future__ import annotations

import logging
import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from verl_lab.domain.run import Status
    from verl_lab.domain.wire import EventRecord, MetricRecord

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunUpdate:
    """Something new about a run. What it tells is in the index already.

    Attributes
    ----------
    records, events
        In the order they were written; a record of a step that was there before replaces it.
    status
        The newest attempt's status, if it changed.
    error
        Why the run cannot be read at the moment; it is tried again.
    """

    run_id: str
    attempt: int
    records: tuple[MetricRecord, ...] = ()
    events: tuple[EventRecord, ...] = ()
    status: Status | None = None
    error: str | None = None


class Subscription:
    """A listener's place in a feed, until ``close()``."""

    def __init__(self, feed: Feed, listener: Callable[[RunUpdate], object], run_id: str | None) -> None:
        self._feed = feed
        self.listener = listener
        self.run_id = run_id

    def close(self) -> None:
        """Hear nothing more; may be called again."""
        self._feed.unsubscribe(self)


class Feed:
    """Hands every update to every listener that wants it, in order, one at a time.

    Listeners are called on the thread that publishes (the reader's, or one in ``Reader.sync``) and
    should return soon. One that raises misses that update; the error is logged.
    """

    def __init__(self) -> None:
        self._subscriptions: tuple[Subscription, ...] = ()
        self._changing = threading.Lock()
        self._waiting: deque[RunUpdate] = deque()
        self._delivering = threading.Lock()

    def subscribe(self, listener: Callable[[RunUpdate], object], run_id: str | None = None) -> Subscription:
        """Call ``listener`` with every update from now on; only of ``run_id`` if given."""
        subscription = Subscription(self, listener, run_id)
        with self._changing:
            self._subscriptions = (*self._subscriptions, subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """End a subscription."""
        with self._changing:
            self._subscriptions = tuple(s for s in self._subscriptions if s is not subscription)

    def is_heard(self, run_id: str) -> bool:
        """Say whether anybody listens to this very run."""
        return any(subscription.run_id == run_id for subscription in self._subscriptions)

    def publish(self, update: RunUpdate) -> None:
        """Hand over an update.

        While another thread is handing over, or a listener publishes itself, the update is left to
        them: so nobody ever waits for a listener of somebody else, and the order is kept.
        """
        self._waiting.append(update)
        # Whoever holds the lock looks again after giving it back, so that nothing is left lying.
        while self._waiting and self._delivering.acquire(blocking=False):
            try:
                while self._waiting:
                    self._deliver(self._waiting.popleft())
            finally:
                self._delivering.release()

    def _deliver(self, update: RunUpdate) -> None:
        for subscription in self._subscriptions:
            if subscription.run_id is None or subscription.run_id == update.run_id:
                try:
                    subscription.listener(update)
                except Exception:  # a listener is anybody's code; it must not end the reader
                    _logger.exception("A listener failed on an update of %s", update.run_id)

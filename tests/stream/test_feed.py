from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from verl_lab.stream import Feed, RunUpdate

if TYPE_CHECKING:
    import pytest


def test_listeners_hear_their_runs_in_order_until_they_close():
    feed, everything, one = Feed(), [], []
    feed.subscribe(everything.append)
    mine = feed.subscribe(one.append, "a")
    for run in ("a", "b", "a"):
        feed.publish(RunUpdate(run, 1))
    mine.close()
    mine.close()
    feed.publish(RunUpdate("a", 2))
    assert [u.run_id for u in everything] == ["a", "b", "a", "a"]
    assert [u.attempt for u in one] == [1, 1]


def test_a_listener_that_raises_misses_that_update_only(caplog: pytest.LogCaptureFixture):
    feed, heard = Feed(), []

    def broken(update: RunUpdate) -> None:
        heard.append(("broken", update.attempt))
        if update.attempt == 1:
            raise RuntimeError("no")

    feed.subscribe(broken)
    feed.subscribe(lambda update: heard.append(("well", update.attempt)))
    with caplog.at_level(logging.ERROR):
        feed.publish(RunUpdate("a", 1))
        feed.publish(RunUpdate("a", 2))
    assert heard == [("broken", 1), ("well", 1), ("broken", 2), ("well", 2)]
    assert "RuntimeError: no" in caplog.text


def test_a_listener_may_publish_subscribe_and_close():
    feed, heard = Feed(), []

    def listener(update: RunUpdate) -> None:
        heard.append(update.attempt)
        if update.attempt < 3:
            feed.publish(RunUpdate("a", update.attempt + 1))
            assert heard[-1] == update.attempt  # handed over after this one, not inside it
        else:
            mine.close()

    mine = feed.subscribe(listener)
    feed.publish(RunUpdate("a", 1))
    feed.publish(RunUpdate("a", 9))
    assert heard == [1, 2, 3]


def test_updates_of_many_threads_all_arrive_one_at_a_time():
    feed, heard, inside = Feed(), [], threading.Lock()

    def listener(update: RunUpdate) -> None:
        assert inside.acquire(blocking=False)
        heard.append(update.attempt)
        inside.release()

    feed.subscribe(listener)
    threads = [
        threading.Thread(target=lambda n=n: [feed.publish(RunUpdate("a", n * 1000 + i)) for i in range(200)])
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(heard) == 1600
    assert all([x for x in heard if x // 1000 == n] == [n * 1000 + i for i in range(200)] for n in range(8))

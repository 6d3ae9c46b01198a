"""Reads a run again and again, each time in a process that is killed.

Arguments: URL FOLDER KIND ROUNDS SEED.

Forks instead of starting anew, so that a round takes milliseconds.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time

from verl_lab.store import Store
from verl_lab.stream import Feed, FollowedRun, Reader
from verl_lab.transport.local import LocalHost


def read_for_good(url: str, folder: str, kind: str, told: int) -> None:
    store, feed = Store.open(url), Feed()
    feed.subscribe(lambda _: os.write(told, b"x"))
    reader = Reader(store, feed, poll_s=0.001)
    reader.follow(FollowedRun("run-1", LocalHost(), folder, kind))
    while True:
        reader.sync("run-1")


def main(url: str, folder: str, kind: str, rounds: str, seed: str) -> None:
    dice = random.Random(seed)
    for number in range(int(rounds)):
        heard, told = os.pipe()
        child = os.fork()
        if child == 0:
            read_for_good(url, folder, kind, told)
        os.close(told)
        # Killed while it opens the store, or somewhere after it has stored so much.
        for _ in range(dice.choice([0, 1, 1, 2, 2, 3])):
            os.read(heard, 1)
        time.sleep(dice.uniform(0, 0.03))
        os.kill(child, signal.SIGKILL)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
        os.close(heard)
        print(number, flush=True)


main(*sys.argv[1:])

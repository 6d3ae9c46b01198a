"""Adds a data set and keeps a copy of it, beside other processes: ``adding.py HOME PATH START_AT``."""

from __future__ import annotations

import sys
import time

from verl_lab import Lab


def main(home: str, path: str, start_at: str) -> None:
    time.sleep(max(0.0, float(start_at) - time.time()))
    with Lab(home) as lab:
        version = lab.datasets.add(path)
        with lab.datasets.snapshots.in_use():
            lab.datasets.pin(path, copy=True)
        print(version.hash)


main(*sys.argv[1:])

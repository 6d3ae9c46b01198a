"""Keeps a copy of a folder, and says when it begins to copy: ``keeping.py HOME PATH``."""

from __future__ import annotations

import sys

from verl_lab import Lab


def main(home: str, path: str) -> None:
    with Lab(home) as lab:
        lab.datasets.at(path)
        print("copying", flush=True)
        with lab.datasets.snapshots.in_use():
            lab.datasets.pin(path, copy=True)


main(*sys.argv[1:])

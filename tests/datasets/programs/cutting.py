"""Hashes a file that is cut short meanwhile, again and again: ``cutting.py FILE ROUNDS SEED``.

Prints how often it was told. A process that reads a mapped file where it ends no more is killed.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from pathlib import Path

from verl_lab.datasets import fingerprint
from verl_lab.errors import TransportError

SIZE = 160 * 2**20


def main(name: str, rounds: str, seed: str) -> None:
    file, dice, told = Path(name), random.Random(seed), 0
    content = random.Random(0).randbytes(2**20) * (SIZE // 2**20)
    for _ in range(int(rounds)):
        file.write_bytes(content)
        cut = threading.Thread(target=cut_after, args=(dice.random() * 0.08, name))
        with fingerprint.opened(file) as descriptor:
            cut.start()
            try:
                fingerprint.hash_open(descriptor, file)
            except TransportError:
                told += 1
        cut.join()
    print(told)


def cut_after(delay_s: float, name: str) -> None:
    time.sleep(delay_s)
    os.truncate(name, 0)


main(*sys.argv[1:])

"""Keeps and rotates secrets beside other processes: ``secrets_beside.py URL HOME put|rotate NAME START_AT``.

``put`` keeps one secret of its own, ``rotate`` changes the key until it is killed.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from verl_lab.domain.secret import Secret
from verl_lab.errors import StoreError
from verl_lab.store import Store


def main(url: str, home: str, task: str, name: str, start_at: str) -> None:
    store = Store.open(url)
    secrets = store.secrets(Path(home))
    time.sleep(max(0.0, float(start_at) - time.time()))
    if task == "put":
        secrets.put(f"host:{name}", "password", Secret(f"planted-{name}"))
        return
    print("ready", flush=True)
    while True:
        try:
            secrets.rotate()
        except StoreError as error:
            if "by others" not in error.message:
                raise


main(*sys.argv[1:])

"""What knowing a data set costs, as ratios to the limits measured in the same run.

python tests/bench/datasets.py [--json] [--mib 1024]
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

from blake3 import blake3
from parts.rows import Row, interleaved, show

from verl_lab import Lab
from verl_lab.datasets import Fingerprints, find
from verl_lab.store import Store

ROUNDS = 9


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments.add_argument("--mib", type=int, default=1024, help="size of the file to hash, in MiB")
    chosen = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = [*fingerprint(Path(folder), chosen.mib), *rows_read(Path(folder))]
    show(rows, as_json=chosen.json)


def fingerprint(folder: Path, mib: int) -> list[Row]:
    file = folder / "large.bin"
    with file.open("wb") as out:
        for _ in range(mib // 16):
            out.write(os.urandom(16 * 2**20))
    store = Store.open(f"sqlite:///{folder / 'bench.db'}")
    fingerprints = Fingerprints(store.datasets)

    def ours() -> str:
        # What a first look does: the hash kept of an earlier one is dropped.
        store.datasets.forget_hashes([str(file)])
        return fingerprints.of(find(file)).hash

    def limit() -> str:
        hasher = blake3(max_threads=blake3.AUTO)
        hasher.update_mmap(file)
        return hasher.hexdigest()

    if ours() != limit():
        raise SystemExit("the two hashes are not the same")
    limit_s, ours_s = interleaved([limit, ours], ROUNDS)
    time.sleep(2.1)  # a file that was written a moment ago is read again
    fingerprints.of(find(file))
    (again_s,) = interleaved([lambda: fingerprints.of(find(file))], ROUNDS)
    size = file.stat().st_size
    store.close()
    file.unlink()
    share = limit_s / ours_s
    said = f"{share:.0%} ({size / ours_s / 1e9:.1f} of {size / limit_s / 1e9:.1f} GB/s)"
    return [
        Row("fingerprint, of blake3 over mmap", said, ">= 80 %", share >= 0.8),
        Row("the same file once more, ms", f"{again_s * 1e3:.2f}"),
    ]


def rows_read(folder: Path) -> list[Row]:
    """Measure what checking and comparing rows costs; there is no bar for it."""
    count = 100_000
    line = '{"messages": [{"role": "user", "content": "what is %d?"}, {"role": "assistant", "content": "%d"}]}\n'
    for name, first in (("a.jsonl", 0), ("b.jsonl", count // 2)):
        (folder / name).write_text("".join(line % (n, n) for n in range(first, first + count)))
    with Lab(folder / "home") as lab:
        check_s, diff_s = interleaved(
            [
                lambda: lab.datasets.check(folder / "a.jsonl", algorithm="sft"),
                lambda: lab.datasets.diff(folder / "a.jsonl", folder / "b.jsonl"),
            ],
            3,
        )
    return [
        Row("rows checked, thousand/s", f"{count / check_s / 1e3:,.0f}"),
        Row("rows compared, thousand/s", f"{2 * count / diff_s / 1e3:,.0f}"),
    ]


if __name__ == "__main__":
    main()

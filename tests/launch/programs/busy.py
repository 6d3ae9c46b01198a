"""Stands for a training that takes memory and a processor: in a process that has lost its parent and its environment.

``busy.py PID_FILE END_FILE``
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

WORK = """
import os, sys
if os.fork(): os._exit(0)
os.setsid()
taken = bytearray(300 * 2**20)
for place in range(0, len(taken), 4096): taken[place] = 1
open(sys.argv[1] + ".new", "w").write(str(os.getpid()))
os.rename(sys.argv[1] + ".new", sys.argv[1])
while os.path.exists(sys.argv[1]) and not os.path.exists(sys.argv[2]): sum(range(10000))
"""

if __name__ == "__main__":
    subprocess.run([sys.executable, "-c", WORK, *sys.argv[1:]], env={"PATH": os.environ["PATH"]}, check=True)
    while not Path(sys.argv[2]).exists():
        time.sleep(0.02)

"""Stands for notebooks: for each run's name that it reads, a process that starts the run and then waits to be killed.

``clients.py RUNS_ROOT`` starts them here; ``clients.py RUNS_ROOT PORT KEY KNOWN_HOSTS`` on a host over SSH.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

from verl_lab.domain.host import HostEntry
from verl_lab.launch.launcher import Launcher
from verl_lab.transport.local import LocalHost
from verl_lab.transport.ssh import KnownHosts, SshHost, Timings

ROOT, *FAR = sys.argv[1:]


def tell(**said: object) -> None:
    os.write(1, json.dumps(said).encode() + b"\n")


def start(run: str) -> None:
    tell(run=run, pid=os.getpid())
    if FAR:
        port, key, known = FAR
        entry = HostEntry.of(name="box", hostname="127.0.0.1", port=int(port), user=None, identity=key, auth=("key",))
        host = SshHost(entry, KnownHosts(Path(known), ()), timings=Timings(connect_s=60))
        agent = host.connect()["pid"]
        Launcher(host, ROOT, python=sys.executable, is_far=True).start(run)
        tell(run=run, started=True, agent=agent)
    else:
        Launcher(LocalHost(), ROOT, python=sys.executable).start(run)
        tell(run=run, started=True)
    time.sleep(600)


signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody has to wait for them
for line in sys.stdin:
    if os.fork() == 0:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        try:
            start(line.strip())
        finally:
            os._exit(1)

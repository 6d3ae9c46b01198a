"""``python -m verl_lab.environments USER@HOST [ROLE]``: set up a host over SSH, from a shell."""

from __future__ import annotations

import argparse
import getpass
import re
import sys
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from verl_lab.domain.host import HostEntry, Jump
from verl_lab.domain.secret import Secret
from verl_lab.environments.remote import ROLES, HostEnvironment
from verl_lab.errors import InvalidInputError, VerlLabError
from verl_lab.settings import Settings
from verl_lab.transport.ssh import HostKeyError, KnownHosts, SshHost
from verl_lab.transport.ssh_config import read_ssh_config

if TYPE_CHECKING:
    from typing import Any

    from verl_lab.domain.host import SecretKind

INTERRUPTED = 130


def main(words: list[str] | None = None) -> int:
    """Run the command; returns its exit code: 0 where the host is as it should be."""
    args = _parser().parse_args(words)
    try:
        host = SshHost(_entry(args), KnownHosts(Settings.resolve().home / "known_hosts"), _asked)
    except VerlLabError as error:
        print(error, file=sys.stderr)
        return 2
    try:
        home = _connected(host)
        root = args.root or str(PurePosixPath(home) / ".verl-lab")
        fix = f"environments/setup_remote_env.sh {args.host}"
        environment = HostEnvironment(host, root, python=args.python, fix=fix)
        if args.check:
            report = environment.report(args.role)
        else:
            report = environment.setup(args.role, offline=args.offline or None, progress=_say)
    except VerlLabError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted. What was begun on the host goes on; the same command follows it.", file=sys.stderr)
        return INTERRUPTED
    finally:
        host.close()
    print(f"\n{report}")
    return 0 if report.ok else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="setup_remote_env.sh",
        description="Make, complete or repair verl-lab's environment on a host over SSH.",
        epilog="It goes on when the connection is gone, or this command is interrupted; the same command follows it.",
    )
    parser.add_argument("host", metavar="USER@HOST", help="also USER@HOST:PORT, or a name in ~/.ssh/config")
    parser.add_argument(
        "role", nargs="?", choices=ROLES, help="what it is for (default: training with a GPU there, else cpu)"
    )
    parser.add_argument("--key", metavar="FILE", help="a private key (default: an agent's, and the usual files)")
    parser.add_argument("--python", metavar="PATH", help="the Python to use there (default: one is looked for)")
    parser.add_argument("--root", metavar="FOLDER", help="where on the host (default: ~/.verl-lab)")
    parser.add_argument("--offline", action="store_true", help="send all packages from here")
    parser.add_argument("--check", action="store_true", help="only say what is there")
    return parser


def _entry(args: argparse.Namespace) -> HostEntry:
    given: dict[str, Any] = {"identity": args.key, "python": args.python}
    given = {field: value for field, value in given.items() if value is not None}
    for alias in read_ssh_config().aliases:
        if alias.name == args.host:
            if alias.entry is None:
                raise InvalidInputError(f"{args.host} of ~/.ssh/config cannot be used: {' '.join(alias.notes)}")
            return alias.entry.changed(**given)
    place = Jump.parse(args.host)
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", place.hostname).strip("-.")
    # The machine itself, reached over SSH, is a host like any other.
    name = f"{name}-ssh" if name.lower() == "local" else name
    return HostEntry.of(name=name, hostname=place.hostname, port=place.port, user=place.user, **given)


def _connected(host: SshHost) -> str:
    """Connect, after asking about a key that is not known; return the folder that is home there."""
    while True:
        try:
            return str(host.connect().get("home", "/root"))
        except HostKeyError as error:
            if not error.can_accept or not sys.stdin.isatty():
                raise
            print(error)
            if input("Is that its fingerprint? [y/N] ").strip().lower() not in ("y", "yes"):
                raise
            host.accept_key(error.fingerprint)
            host.renew()


def _asked(kind: SecretKind) -> Secret | None:
    """Ask for a password or passphrase, where there is someone to ask."""
    typed = getpass.getpass(f"{kind}: ") if sys.stdin.isatty() else ""
    return Secret(typed) if typed else None


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())

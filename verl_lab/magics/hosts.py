"""What ``%verl_hosts`` does with the line it was given. No secret stands on a line: it is asked for."""

from __future__ import annotations

import argparse
import getpass
import warnings
from typing import TYPE_CHECKING, Any, NoReturn

from verl_lab.domain.secret import Secret
from verl_lab.lab.table import plain
from verl_lab.magics.line import MagicError, argument
from verl_lab.transport.ssh_config import read_ssh_config

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from verl_lab.lab import Lab

_ON_A_LINE = (
    "A secret is never typed on a line: it stays in the notebook and in the history. Write --password or --passphrase"
    " alone, as the last word; it is asked for. If what you typed was one, change it where it is used."
)
_NOBODY = "--{kind} asks for it, and nobody can be asked here. In Python, lab.hosts.add and lab.hosts.edit take it."
_UNSET = "none"


def _refuse(_typed: str) -> NoReturn:
    raise MagicError(_ON_A_LINE)


ARGUMENTS = (
    argument(
        "action",
        metavar="ACTION",
        nargs="?",
        default="view",
        choices=("view", "list", "add", "test", "edit", "remove", "accept", "rotate-keys"),
        help="view (default): ask all for GPUs, memory, disk, load, runs; list: how they are reached; add; test; edit;"
        " remove; accept: take the key that a host shows for its own; rotate-keys: encrypt all secrets anew",
    ),
    argument("name", metavar="NAME", nargs="?", help="what the host is called"),
    argument(
        "value",
        metavar="ADDRESS|FINGERPRINT",
        nargs="?",
        help="with add and edit: where it is; add without it looks NAME up in ~/.ssh/config. With accept: the key's",
    ),
    argument("rest", nargs="*", help=argparse.SUPPRESS),
    argument("--port", metavar="N", help="default: 22"),
    argument("--user", help="whom to log in as; default: your name here"),
    argument("--key", metavar="FILE", help="the private key to log in with; default: an agent, then the usual files"),
    argument("--password", nargs="?", const=True, type=_refuse, help="ask for the password, and keep it encrypted"),
    argument(
        "--passphrase", nargs="?", const=True, type=_refuse, help="ask for that of the key, and keep it encrypted"
    ),
    argument("--forget-secrets", action="store_true", help="with edit: forget password and passphrase"),
    argument("--jump", metavar="HOSTS", help="go through these, as in OpenSSH: me@gate:2222,inner"),
    argument("--runs-root", metavar="FOLDER", help="where all of verl-lab's lies there; default: ~/.verl-lab"),
    argument("--python", metavar="FILE", help="the Python to use there; default: python3"),
    argument("--force", action="store_true", help="with remove: although runs there are not over"),
)
_TEXT = {
    "port": "port",
    "user": "user",
    "key": "key",
    "jump": "proxy_jump",
    "runs_root": "runs_root",
    "python": "python",
}
_MAY_BE_UNSET = ("key", "proxy_jump", "runs_root", "python")
_ALLOWED: dict[str, tuple[str, ...]] = {
    "add": ("name", "value", *_TEXT, "password", "passphrase"),
    "edit": ("name", "value", *_TEXT, "password", "passphrase", "forget_secrets"),
    "remove": ("name", "force"),
    "accept": ("name", "value"),
    "test": ("name",),
}


def hosts_line(lab: Lab, args: argparse.Namespace) -> object:
    """Do the one thing that a line of ``%verl_hosts`` asks for; return what is to be shown."""
    _check(args)
    hosts = lab.hosts
    does: dict[str, Callable[[], object]] = {
        "view": hosts.view,
        "list": hosts.list,
        "add": lambda: hosts.add(args.name, args.value, **_fields(args), **_secrets(args)),
        "test": lambda: hosts.test(args.name),
        "edit": lambda: hosts.edit(args.name, **_changes(args)),
        "remove": lambda: _removed(lab, args),
        "accept": lambda: _accepted(lab, args),
        "rotate-keys": lambda: _rotated(lab),
    }
    return does[args.action]()


def offered(lab: Lab, before: Sequence[str]) -> list[str] | None:
    """Return the words that may stand after those of a line; None where any may."""
    if not before:
        return ["view", "list", *_ALLOWED, "rotate-keys"]
    if len(before) > 1 or before[0] not in _ALLOWED:
        return None
    if before[0] == "add":
        known = lab.hosts.names()
        return [alias.name for alias in read_ssh_config().aliases if alias.entry and alias.name not in known]
    return list(lab.hosts.names())[0 if before[0] == "test" else 1 :]


def _check(args: argparse.Namespace) -> None:
    """Refuse what is missing, or goes with another action."""
    if args.rest:  # which are not repeated: one may be a secret
        raise MagicError("There are too many words on the line. %verl_hosts --help tells which there may be.")
    allowed = _ALLOWED.get(args.action, ())
    for name, value in vars(args).items():
        if name != "action" and name not in allowed and value not in (None, False, []):
            shown = f"--{name.replace('_', '-')}" if name not in ("name", "value") else repr(value)
            raise MagicError(f"%verl_hosts {args.action} takes no {shown}. %verl_hosts --help tells more.")
    if "name" in allowed and args.name is None:
        raise MagicError(f"%verl_hosts {args.action} is about one host: give its NAME. %verl_hosts list shows them.")
    if args.action == "accept" and args.value is None:
        raise MagicError(f"Give the fingerprint too: %verl_hosts test {args.name} shows what the host says it is.")


def _fields(args: argparse.Namespace) -> dict[str, Any]:
    given = {field: getattr(args, option) for option, field in _TEXT.items()}
    return {field: value for field, value in given.items() if value is not None}


def _changes(args: argparse.Namespace) -> dict[str, Any]:
    changes = _fields(args)
    changes |= {field: None for field in _MAY_BE_UNSET if changes.get(field) == _UNSET}
    if args.value is not None:
        changes["address"] = args.value
    if args.forget_secrets:
        changes |= {"password": None, "passphrase": None}
    changes |= _secrets(args)
    if not changes:
        raise MagicError(f"What is to be another about {args.name}? %verl_hosts --help lists what can be changed.")
    return changes


def _secrets(args: argparse.Namespace) -> dict[str, Any]:
    asked = [kind for kind in ("password", "passphrase") if getattr(args, kind)]
    return {kind: _ask(kind, args.name) for kind in asked}


def _ask(kind: str, name: str) -> Secret:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", getpass.GetPassWarning)  # it would show what is typed
            return Secret(getpass.getpass(f"{kind.capitalize()} for {name}: "))
    except (EOFError, RuntimeError, getpass.GetPassWarning):  # RuntimeError: a notebook that is run by a program
        raise MagicError(_NOBODY.format(kind=kind)) from None


def _removed(lab: Lab, args: argparse.Namespace) -> None:
    lab.hosts.remove(args.name, force=args.force)
    print(f"{args.name} was removed, with its secrets. Its runs stay listed, and their folders stay on it.")


def _accepted(lab: Lab, args: argparse.Namespace) -> None:
    lab.hosts.accept(args.name, args.value)
    print(f"Accepted: from now on {args.name} is known by {args.value}. %verl_hosts test {args.name} goes on.")


def _rotated(lab: Lab) -> None:
    done = lab.hosts.rotate_keys()
    left = f" {done.left} could not be, since their key is not on this machine: give them again." if done.left else ""
    print(plain(f"{done.renewed} secrets are encrypted with a new key, kept in the {done.place}.{left}"))

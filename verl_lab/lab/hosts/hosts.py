"""``lab.hosts``: the machines that runs train on, how they are reached, and whether they are."""

from __future__ import annotations

import functools
import posixpath
from typing import TYPE_CHECKING, Any

from verl_lab.domain.host import FINGERPRINT, LOCAL, HostEntry, HostState
from verl_lab.domain.secret import Secret
from verl_lab.errors import InvalidInputError, NotFoundError
from verl_lab.lab.hosts.entries import entry_of
from verl_lab.lab.hosts.links import HostLinks
from verl_lab.lab.hosts.listing import HostCard, HostTable, ListedHost
from verl_lab.store.hosts import owner

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from verl_lab.domain.host import SecretKind
    from verl_lab.environments.report import Report
    from verl_lab.lab.hosts.check import HostCheck
    from verl_lab.lab.hosts.view import HostReport, HostView
    from verl_lab.lab.lab import Lab
    from verl_lab.store.hosts import HostRow
    from verl_lab.store.secrets import Rotation, Secrets
    from verl_lab.transport.base import Host
    from verl_lab.transport.ssh import SshHost, Timings

_FOLDER = ".verl-lab"
_FIELDS = {"address": "hostname", "key": "identity"}  # what a person says, and what the field is called
_KINDS: tuple[SecretKind, ...] = ("password", "passphrase")


class Hosts:
    """The machines of a lab: this one, called ``local``, and those that are reached over SSH.

    Each is connected to when it is first used, by one connection that all its runs share, and that is made anew
    where it breaks. A host that is not reached says nothing about its runs: they go on by themselves.

    Attributes
    ----------
    timings
        How long to wait for what; None for the usual. It counts for hosts that are first used after it was set.
    seen
        What each host had and did when it was asked last, by name.
    """

    def __init__(self, lab: Lab) -> None:
        self.timings: Timings | None = None
        self.seen: dict[str, HostReport] = {}
        self._lab = lab
        self._index = lab.store.hosts
        self._known = lab.settings.home / "known_hosts"
        self._links = HostLinks(self._index, self._known, lambda: self._secrets)

    def __repr__(self) -> str:
        return f"Hosts({', '.join(self.names())})"

    def add(  # noqa: PLR0913  the published signature
        self,
        name: str,
        address: str | None = None,
        port: int | None = None,
        user: str | None = None,
        key: str | None = None,
        password: str | Secret | None = None,
        runs_root: str | None = None,
        *,
        passphrase: str | Secret | None = None,
        python: str | None = None,
        proxy_jump: str | None = None,
        accept: str | None = None,
    ) -> HostCard:
        """Add a machine that is reached over SSH. It is not connected to yet: ``test`` does that.

        Parameters
        ----------
        name
            What to call it.
        address
            Its name in the network, or its IP address; without one, ``name`` is looked up in ``~/.ssh/config``,
            and what that says holds where nothing else is given here.
        port
            22 where nothing is said.
        user
            Whom to log in as; by default the name of the user here.
        key
            A private key's file on this machine; by default an agent and the usual files are tried.
        password, passphrase
            Of the user there, and of the key. They are kept encrypted. Give them as ``getpass.getpass()`` returns
            them: what is typed into a cell stays in the notebook.
        runs_root
            The folder for all of verl-lab's on the host; by default ``~/.verl-lab``.
        python
            The Python to use there; by default ``python3``, and for training the one that was set up.
        proxy_jump
            The machines to go through, as OpenSSH writes it: ``me@gate:2222,inner``.
        accept
            The fingerprint of the host's key, as its administrator says it: it is accepted at once.

        Raises
        ------
        InvalidInputError
            There is a host of that name, or a field holds what it may not.
        NotFoundError
            There is no address, and the configuration has no such host.
        StoreError
            A secret cannot be kept.
        TransportError
            ``accept`` was given, and the host was not reached, or shows another key. Nothing was added then.
        """
        given: dict[str, Any] = {"port": port, "user": user, "identity": key, "proxy_jump": proxy_jump}
        given |= {"runs_root": runs_root, "python": python}
        secrets = _wrapped({"password": password, "passphrase": passphrase})
        del password, passphrase  # no traceback shows them
        entry, notes = entry_of(name, address, {field: value for field, value in given.items() if value is not None})
        self._index.add(entry)
        try:
            for kind, secret in secrets.items():
                if secret is not None:
                    self._secrets.put(owner(name), kind, secret)
            if accept is not None:
                self.accept(name, accept)
        except BaseException:
            self._forget(name, with_live_runs=True)
            raise
        return HostCard(entry, "added", notes)

    def edit(self, name: str, /, **changes: Any) -> HostCard:
        """Change how a host is reached; what is followed there is followed on.

        Parameters
        ----------
        changes
            Any argument of ``add`` but ``accept``, with its new value; None for what holds where nothing is said.
            A ``password`` or ``passphrase`` of None is forgotten.

        Raises
        ------
        NotFoundError
            There is no such host.
        InvalidInputError
            A field is unknown, or holds what it may not; nothing was changed then.
        """
        secrets = _wrapped({kind: changes.pop(kind) for kind in _KINDS if kind in changes})
        named = {_FIELDS.get(field, field): value for field, value in changes.items()}
        entry = self._index.edit(_far(name), **{field: _unset(field, value) for field, value in named.items()})
        for kind, secret in secrets.items():
            if secret is None:
                self._secrets.remove(owner(name), kind)
            else:
                self._secrets.put(owner(name), kind, secret)
        self._links.reach_anew(entry, because_of_secrets=bool(secrets))
        return HostCard(entry, "changed")

    def remove(self, name: str, *, force: bool = False) -> None:
        """Forget a host with its secrets. Its runs stay listed, and their folders stay on it.

        Parameters
        ----------
        force
            Do it although runs there are not over: they go on unwatched.

        Raises
        ------
        NotFoundError
            There is no such host.
        InvalidInputError
            Runs there are not over.
        """
        try:
            self._forget(_far(name), with_live_runs=force)
        except InvalidInputError as error:
            hint = "Stop them first. With force=True (%verl_hosts remove … --force) they go on unwatched."
            raise InvalidInputError(error.message, hint if name != LOCAL else error.hint) from None

    def accept(self, name: str, fingerprint: str) -> None:
        """Take the key that a host shows for its own, if it has this fingerprint, from now on.

        Where the way to it leads through other machines, it is the first of them that is not known.

        Raises
        ------
        NotFoundError
            There is no such host.
        InvalidInputError
            That is no fingerprint.
        HostKeyError
            The host shows another key, or is known by another one.
        TransportError
            It does not answer.
        """
        FINGERPRINT.check("fingerprint", fingerprint)
        from verl_lab.lab.hosts.ssh import accept_key

        host = self._host(name)
        if accept_key(host, self._known, fingerprint):
            self._index.accept_key(name, fingerprint)

    def test(self, name: str) -> HostCheck:
        """Try everything a launch needs of a host, with one attempt to log in, and say what is wrong.

        Raises
        ------
        NotFoundError
            There is no such host.
        """
        from verl_lab.lab.hosts.check import check_host

        return check_host(self, name)

    def list(self) -> HostTable:
        """Return the hosts, this machine first, as they are known: none is asked."""
        local = ListedHost(None, HostState("reachable"), live_runs=tuple(self._index.live_runs(LOCAL)))
        return HostTable.of([local, *(self._listed(row) for row in self._index.list())])

    def view(self) -> HostView:
        """Ask all hosts at once what they have and do now, and say where there is room for a run."""
        from verl_lab.lab.hosts.view import view

        return view(self)

    def look(self, name: str, *, tries_to_write: bool = False) -> HostReport:
        """Ask one host what it has and does now.

        Parameters
        ----------
        tries_to_write
            Also find out whether files can be written there.

        Raises
        ------
        NotFoundError
            There is no such host.
        TransportError
            It was not reached, or could not answer.
        """
        from verl_lab.lab.hosts.view import look

        host, root = self.get(name), self.root(name)
        here = name == LOCAL
        runs = str(self._lab.settings.runs_root) if here else posixpath.join(root, "runs")
        python = None if here else self.python(name) or "python3"
        found = self.seen[name] = look(host, root, runs, python, tries_to_write=tries_to_write)
        return found

    def names(self) -> tuple[str, ...]:
        """Return the names of all hosts, ``local`` first."""
        return (LOCAL, *(row.entry.name for row in self._index.list()))

    def entry(self, name: str) -> HostEntry:
        """Return how a host is reached.

        Raises
        ------
        NotFoundError
            There is no such host.
        InvalidInputError
            It is this machine.
        """
        row = self._index.get(_far(name))
        if row is None:
            hint = "%verl_hosts list shows them; %verl_hosts add NAME ADDRESS adds one."
            raise NotFoundError.of("host", name, self.names(), hint)
        return row.entry

    def python(self, name: str) -> str | None:
        """Return the Python that the user named for a host; None where none was named. Raises as ``entry``."""
        return None if name == LOCAL else self.entry(name).python

    def get(self, name: str) -> Host:
        """Return a host; the same object each time, for as long as it is in the list. Nothing is connected by this.

        Raises
        ------
        NotFoundError
            There is no such host.
        TransportError
            The lab is closed.
        """
        return self._lab.host if name == LOCAL else self._host(name)

    def connect(self, name: str, *, anew: bool = False) -> dict[str, Any]:
        """Connect to a host over SSH if there is no connection, and return what it says of itself.

        Parameters
        ----------
        anew
            Try at once even where the last attempt was refused a moment ago.

        Raises
        ------
        TransportError
            With what is wrong, and what to do next.
        """
        host = self._host(name)
        return host.reconnect() if anew and not self.state(name).is_reachable else host.connect()

    def root(self, name: str) -> str:
        """Return the folder on a host that holds all of verl-lab's: ``runs``, ``environments``, ``datasets`` and more.

        Raises
        ------
        NotFoundError
            There is no such host.
        TransportError
            The host has to be asked where home is, and was not reached.
        """
        if name == LOCAL:
            return str(self._lab.settings.home)
        entry = self.entry(name)
        given = entry.runs_root or f"~/{_FOLDER}"
        if given.startswith("~"):
            given = self._links.home(entry, self.timings).rstrip("/") + given[1:]
        given = posixpath.normpath(given)
        return posixpath.dirname(given) if posixpath.basename(given) == "runs" else given

    def state(self, name: str) -> HostState:
        """Return whether a host is reachable, as far as was seen here; it is not asked.

        Raises
        ------
        NotFoundError
            There is no such host.
        """
        if name == LOCAL:
            return HostState("reachable")
        return self._links.state(self.entry(name).name)

    def environment(self, name: str, role: str | None = None) -> Report:
        """Try what must work in a host's environment; see ``environments.environment``."""
        from verl_lab.lab.hosts import environments

        return environments.environment(self._lab, name, role)

    def setup(
        self,
        name: str,
        role: str | None = None,
        *,
        offline: bool | None = None,
        progress: Callable[[str], None] = lambda _line: None,
    ) -> Report:
        """Make, complete or repair the environment that trains on a host; see ``environments.setup``."""
        from verl_lab.lab.hosts import environments

        return environments.setup(self._lab, name, role, offline=offline, progress=progress)

    def rotate_keys(self) -> Rotation:
        """Encrypt all passwords and passphrases anew, with a new key, and destroy the old ones.

        Raises
        ------
        StoreError
            The new key cannot be kept; then all is as it was.
        """
        return self._secrets.rotate()

    def close(self) -> None:
        """End all connections. What runs on the hosts goes on."""
        self._links.close()

    @functools.cached_property
    def _secrets(self) -> Secrets:
        return self._lab.store.secrets(self._lab.settings.home)

    def _host(self, name: str) -> SshHost:
        return self._links.host(self.entry(name), self.timings)

    def _forget(self, name: str, *, with_live_runs: bool) -> None:
        self._index.remove(name, with_live_runs=with_live_runs)
        for row in self._lab.store.runs.list():
            if row.host == name:
                self._lab.reader.unfollow(row.id)
        self._links.drop(name)

    def _listed(self, row: HostRow) -> ListedHost:
        name = row.entry.name
        runs = tuple(self._index.live_runs(name))
        return ListedHost(row.entry, self._links.state(name), row.added, row.last_contact, row.host_key, runs)


def _far(name: str) -> str:
    if name == LOCAL:
        raise InvalidInputError(f"name: {LOCAL!r} is this machine: there is nothing to change about it.")
    return name


def _wrapped(given: Mapping[SecretKind, str | Secret | None]) -> dict[SecretKind, Secret | None]:
    return {kind: Secret(value) if isinstance(value, str) else value for kind, value in given.items()}


def _unset(field: str, value: Any) -> Any:
    """Return what a field holds where nothing is said about it, for None."""
    known = HostEntry.model_fields.get(field)
    return known.default if value is None and known is not None and not known.is_required() else value

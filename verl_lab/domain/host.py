"""A host: a machine of the user's that is reached over SSH, how, and whether it is."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from verl_lab import inputs
from verl_lab.errors import InvalidInputError, nearest

if TYPE_CHECKING:
    from typing_extensions import Self

Auth = Literal["agent", "key", "password", "keyboard-interactive"]
SecretKind = Literal["password", "passphrase"]

LOCAL = "local"
"""The name of the machine verl-lab runs on; no other can have it."""
SSH_PORT = 22
_HIGHEST_PORT = 65535
_MOST_JUMPS = 8

NAME = inputs.Shape(
    re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*"),
    64,
    "A host's name begins with a letter or digit, and has up to 64 of these, '.', '_' and '-'.",
)
USER = inputs.Shape(
    re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+@-]*"),
    128,
    "A user name begins with a letter, digit or '_', and has letters, digits and . _ + @ - only.",
)
FINGERPRINT = inputs.Shape(
    re.compile(r"SHA256:[A-Za-z0-9+/]{43}"), 50, "A fingerprint looks like SHA256:…, as ssh-keygen -l prints it."
)
_VALID_ADDRESS = (
    "It is a host name like gpu1.example.org, or an IPv4 or IPv6 address; user and port are fields of their own."
)
_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_DNS_NAME = inputs.Shape(re.compile(rf"{_LABEL}(\.{_LABEL})*"), 253, _VALID_ADDRESS)
_IPV6 = re.compile(r"(?P<address>[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*)(%[A-Za-z0-9._-]{1,15})?")
_JUMP = re.compile(r"((?P<user>[^\[\]:]*)@)?(\[(?P<six>[^\[\]]*)\]|(?P<name>[^\[\]:]*))(:(?P<port>[0-9]+))?")


def check_address(field: str, value: object) -> str:
    """Return ``value`` if it is the name of a machine, or its IPv4 or IPv6 address.

    Raises
    ------
    InvalidInputError
        It is neither.
    """
    six = _IPV6.fullmatch(value) if isinstance(value, str) else None
    if six is None:
        text = _DNS_NAME.check(field, value)
        if not text.rpartition(".")[2].isdigit():
            return text
        numbers = text  # no name ends in a number: this is IPv4, or a short form that programs read differently
    else:
        text, numbers = six.string, six["address"]
    try:
        ipaddress.ip_address(numbers)
    except ValueError:
        raise InvalidInputError(f"{field}: {inputs.shown(text)} will not do.", _VALID_ADDRESS) from None
    return text


def _check_name(value: str) -> str:
    if value.lower() == LOCAL:
        raise InvalidInputError(f"name: {value!r} is this machine itself.", "Give the host another name.")
    return NAME.check("name", value)


def _port(value: object) -> int:
    return inputs.whole_number("port", value, low=1, high=_HIGHEST_PORT)


Address = Annotated[str, AfterValidator(lambda value: check_address("hostname", value))]
User = Annotated[str, AfterValidator(lambda value: USER.check("user", value))]
Port = Annotated[int, BeforeValidator(_port)]
KeyFile = Annotated[str, AfterValidator(lambda value: inputs.path_text("identity", value))]


@dataclass(frozen=True)
class HostState:
    """How it stands with a host, as far as this process has seen. It says nothing about what runs there.

    Attributes
    ----------
    word
        ``unknown`` where nobody has asked it yet.
    reason
        Why it is not reachable, in a sentence for a person.
    since
        Unix time in seconds; None while unknown.
    """

    word: Literal["reachable", "unreachable", "unknown"] = "unknown"
    reason: str | None = None
    since: float | None = None

    @property
    def is_reachable(self) -> bool:
        """Whether it answered last."""
        return self.word == "reachable"

    def __str__(self) -> str:
        return f"{self.word}: {self.reason}" if self.reason else self.word


class _Part(BaseModel):
    """Unknown fields are mistakes, nothing changes after checking, and no message repeats what was given."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    @classmethod
    def of(cls, **fields: Any) -> Self:
        """Make one from what a user gave.

        Raises
        ------
        InvalidInputError
            A field is unknown, missing, or holds what it may not; the message names the field.
        """
        try:
            return cls(**fields)
        except ValidationError as error:
            raise _refusal(error, list(cls.model_fields)) from None  # the chain would repeat the values


class Jump(_Part):
    """A machine to go through, as in OpenSSH's ProxyJump; its fields are those of ``HostEntry``."""

    hostname: Address
    port: Port = SSH_PORT
    user: User | None = None
    identity: KeyFile | None = None

    @classmethod
    def parse(cls, text: str) -> Jump:
        """Read ``[user@]host[:port]``; an IPv6 address stands in brackets.

        Raises
        ------
        InvalidInputError
            It is written otherwise.
        """
        found = _JUMP.fullmatch(text)
        if found is None:
            raise InvalidInputError(
                f"proxy_jump: {inputs.shown(text)} will not do.", "It is written [user@]host[:port]."
            )
        name = found["six"] if found["six"] is not None else found["name"]
        return cls.of(hostname=name, port=found["port"] or SSH_PORT, user=found["user"])

    def __str__(self) -> str:
        host = f"[{self.hostname}]" if ":" in self.hostname else self.hostname
        return f"{self.user + '@' if self.user else ''}{host}{'' if self.port == SSH_PORT else f':{self.port}'}"


class HostEntry(_Part):
    """How a host is reached, and where things lie there. It never holds a secret: those are kept apart, encrypted.

    Attributes
    ----------
    name
        What the user calls it.
    hostname
        Its name in the network, or its IPv4 or IPv6 address.
    user
        Whom to log in as; None for the name of the user here.
    identity
        A private key's file on this machine; None to try the usual ones.
    proxy_jump
        The machines to go through, the nearest first; also accepted as OpenSSH writes it, ``me@gate:2222,inner``.
    runs_root
        The folder for runs on the host, absolute or beginning with ``~/``; None for the usual one.
    python
        The Python to use on the host; None to look for one.
    auth
        What to try, in this order; keys come before passwords.
    """

    name: Annotated[str, AfterValidator(_check_name)]
    hostname: Address
    port: Port = SSH_PORT
    user: User | None = None
    identity: KeyFile | None = None
    proxy_jump: Annotated[tuple[Jump, ...], Field(max_length=_MOST_JUMPS)] = ()
    runs_root: Annotated[str, AfterValidator(lambda value: inputs.path_text("runs_root", value))] | None = None
    python: Annotated[str, AfterValidator(lambda value: inputs.path_text("python", value))] | None = None
    auth: tuple[Auth, ...] = ("agent", "key", "password", "keyboard-interactive")

    def changed(self, **changes: Any) -> Self:
        """Return the same host with other values in some fields, checked as in ``of``."""
        if changes.get("name", self.name) != self.name:
            raise InvalidInputError("name: a host keeps its name, since its runs refer to it.", "Add it anew.")
        return self.of(**{**self.model_dump(), **changes})

    @property
    def machine(self) -> tuple[object, ...]:
        """What tells machines apart: where it changes, what was learnt about the other one holds no more."""
        return self.hostname, self.port, self.proxy_jump

    @field_validator("proxy_jump", mode="before")
    @classmethod
    def _parsed(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(Jump.parse(one) for one in value.split(",")) if value else ()

    @field_validator("auth")
    @classmethod
    def _each_once(cls, value: tuple[Auth, ...]) -> tuple[Auth, ...]:
        if not value or len(set(value)) != len(value):
            raise InvalidInputError(
                "auth: it names a way twice, or none.", "Of agent, key, password, keyboard-interactive."
            )
        return value


def _refusal(error: ValidationError, fields: list[str]) -> InvalidInputError:
    """Say the first thing that is wrong, in the words of the check that found it."""
    found = error.errors(include_url=False, include_input=False)
    # A misspelt field is also a missing one: its name says more.
    first = next((one for one in found if one["type"] == "extra_forbidden"), found[0])
    known = first.get("ctx", {}).get("error")
    if isinstance(known, InvalidInputError):
        return InvalidInputError(known.message, known.hint)
    field = str(first["loc"][0]) if first["loc"] else "host"
    if first["type"] == "extra_forbidden":
        near = nearest(field, fields)
        guess = f"Did you mean {near[0]}? " if near else ""
        return InvalidInputError(
            f"{inputs.shown(field)} is no field of a host.", f"{guess}There are {', '.join(fields)}."
        )
    return InvalidInputError(f"{field}: {first['msg'][:1].lower()}{first['msg'][1:]}.")

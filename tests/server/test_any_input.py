"""Whatever is asked: never a server error, always the form of all answers, nothing of the server's insides."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import pytest
from api_document import assert_documented
from tornado.httpclient import HTTPClientError

from verl_lab.server.routes import ROUTES

if TYPE_CHECKING:
    import random

# What asks other machines or takes seconds is asked in tests of its own.
SLOW = ("system/env", "hosts/{host}/environment", "hosts/{host}/setup", "hosts/{host}/test")
TEXTS = (
    "",
    "local",
    "grpo-cpu",
    "20260101-000000-any-0000",
    "critic/score/mean",
    "NaN",
    "-1",
    "9" * 40,
    "../../../../etc/passwd",
    "/etc/passwd",
    "~root",
    "<img src=x onerror=alert(1)>",
    "'; DROP TABLE runs; --",
    "${oc.env:HOME}",
    "$(id)",
    "a\x00b",
    "\U0001f600 \u202e",
    "\u0001\n\r\t",
    "%00%2e%2e%2f",
    "x" * 5000,
    "{{7*7}}",
    "-oProxyCommand=id",
    "actor_rollout_ref._target_=os.system",
    "trainer.total_epochs=${oc.env:HOME}",
    "[" * 200,
    "&a [*a, *a]",
    "127.0.0.1",
)
VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    1,
    -1,
    2**31,
    2**63,
    2**70,
    1e308,
    0.5,
    [],
    {},
    [[]],
    {"a": {"b": 1}},
    "\ud800",
    *TEXTS,
)
INSIDES = re.compile(r"Traceback|File \"|site-packages|sqlalchemy|0x[0-9a-f]{8}|/tmp/pytest|<class ")


def made_of(schema: dict[str, Any], whole: dict[str, Any], dice: random.Random) -> Any:  # noqa: PLR0911  one for each kind
    """Return a value that a schema admits, or nearly."""
    if dice.random() < 0.15:
        return dice.choice(VALUES)
    if "$ref" in schema:
        return made_of(whole[schema["$ref"].rpartition("/")[2]], whole, dice)
    if "anyOf" in schema:
        return made_of(dice.choice(schema["anyOf"]), whole, dice)
    if "enum" in schema:
        return dice.choice(schema["enum"])
    kind = schema.get("type")
    if kind == "object":
        wanted = schema.get("required", ())
        chosen = [name for name in schema.get("properties", {}) if name in wanted or dice.random() < 0.5]
        found = {name: made_of(schema["properties"][name], whole, dice) for name in chosen}
        return found | ({dice.choice(TEXTS): 1} if dice.random() < 0.05 else {})
    if kind == "array":
        return [made_of(schema["items"], whole, dice) for _ in range(dice.choice((0, 1, 2, 600)))]
    if kind in ("integer", "number"):
        return dice.choice((schema.get("minimum", 0), schema.get("maximum", 10), 1, 5, -1, 10**12))
    if kind == "boolean":
        return dice.random() < 0.5
    return None if kind == "null" else dice.choice(TEXTS)


def assert_sound(call: tuple[Any, ...], code: int, body: bytes) -> None:
    """Fail if an answer is none: ``call`` begins with method and address."""
    assert code < 500 or code in (502, 503), (call, code, body[:500])
    said = json.loads(body)
    assert_documented(call[0], call[1], code, said)
    if code >= 400:
        assert said["message"], call
        assert {"message", "hint", "field"} <= said.keys(), call
        assert not INSIDES.search(body.decode()), (call, body[:500])


@pytest.fixture
def knock(http_server_client, jp_serverapp, jp_base_url, jp_auth_header):
    """Return what asks a raw address, and gives status and body."""

    async def ask(method: str, address: str, body: Any = None) -> tuple[int, bytes]:
        content = (
            None if method in ("GET", "DELETE") else body if isinstance(body, bytes) else json.dumps(body).encode()
        )
        try:
            found = await http_server_client.fetch(
                f"{jp_base_url}verl-lab/api/{address}",
                method=method,
                headers=jp_auth_header,
                body=content,
                request_timeout=60,
            )
        except HTTPClientError as error:
            if error.response is None:
                raise
            return error.code, error.response.body
        return found.code, found.body

    return ask


@pytest.mark.parametrize("server_options", [{"requests_per_s": 1e6, "burst": 10**6}])
async def test_nothing_that_is_asked_breaks_the_server(knock, write_run, dice, rounds, server_options) -> None:
    run = write_run("any").scores(1, 20, float).end(step=20)
    code, content = await knock("GET", "openapi.json")
    assert code == 200
    document = json.loads(content)
    whole = document["components"]["schemas"]
    assert sum(map(len, document["paths"].values())) == len(ROUTES)
    known = {"run": run.id, "recipe": "grpo-cpu", "host": "local"}

    def named(part: str) -> str:
        return known[part] if part in known and dice.random() < 0.7 else dice.choice(TEXTS[1:])

    for path, operations in document["paths"].items():
        if path[1:] in SLOW:
            continue
        for method, operation in operations.items():
            for _ in range(rounds(100)):
                address = re.sub(r"\{(\w+)\}", lambda part: quote(named(part[1]), safe=""), path[1:])
                given = {
                    one["name"]: made_of(one["schema"], whole, dice)
                    for one in operation["parameters"]
                    if one["in"] == "query" and (one["required"] or dice.random() < 0.6)
                }
                schema = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
                body = made_of(schema, whole, dice) if schema else {}
                query = urlencode({name: str(value).encode("utf-8", "replace") for name, value in given.items()})
                call = (method.upper(), f"{address}?{query}", body)
                assert_sound(call, *await knock(*call))


DAMAGE = {
    "run.json": (
        b"{",
        b"[]",
        b'{"version": 1}',
        b'{"version": 99}',
        b'{"version": 1, "recipe": 5, "launch": []}',
        None,
    ),
    "config.yaml": (b": : [", b"", b"[1, 2]", b"\xff\xfe", b"a: !!python/object/apply:os.system [id]", None),
    "command.txt": (b"\xff\x00", None),
    "attempts/1/status.json": (b"{", b"[]", b'{"state": "dancing"}', b'{"attempt": "x", "state": "running"}', None),
    "attempts/1/events.jsonl": (b"\x00" * 100, b'{"seq": -1}\n', None),
    "attempts/1/metrics.jsonl": (b"nonsense\n" * 10, b'{"step": 1e999}\n', None),
    "attempts/1/train.log": (b"\xff" * 1000, None),
    "attempts/1/samples/validation/1.jsonl": (b"{", b"[]\n5\n", b'{"score": NaN, "input": 5}\n'),
}


@pytest.mark.parametrize("server_options", [{"requests_per_s": 1e6, "burst": 10**6}])
async def test_damaged_run_folders_are_told_of_and_break_nothing(knock, write_run, server_options) -> None:
    write_run("sound").scores(1, 5, float)
    for place, (file, contents) in enumerate(DAMAGE.items()):
        for k, content in enumerate(contents):
            run = write_run(f"bad-{place}-{k}").scores(1, 5, float).end("failed", step=5)
            target = run.layout.folder / file
            target.parent.mkdir(parents=True, exist_ok=True)
            if content is None:
                target.unlink(missing_ok=True)
            else:
                target.write_bytes(content)
            for route in ROUTES:
                if route.method == "GET" and route.path.startswith("runs/"):
                    address = route.path.format(run=run.id) + ("?step=3" if route.path.endswith("replay") else "")
                    assert_sound(("GET", address, file, content), *await knock("GET", address))
            for action in ("sync", "diagnose", "stop"):
                assert_sound(
                    ("POST", f"runs/{run.id}/{action}", file, content),
                    *await knock("POST", f"runs/{run.id}/{action}", {}),
                )
    for call in (("GET", "runs"), ("POST", "diagnose", {})):
        code, body = await knock(*call)
        assert code == 200, body
        assert "sound" in body.decode()

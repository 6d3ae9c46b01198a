"""The document of the server's API as what its answers are held against."""

from __future__ import annotations

import copy
import re
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator

from verl_lab.server.openapi import document
from verl_lab.server.routes import ROUTES

DOCUMENT: dict[str, Any] = document(ROUTES)
_PATHS = {re.compile(re.sub(r"\{\w+\}", "[^/]+", path[1:]).replace(".", r"\.")): path for path in DOCUMENT["paths"]}


def assert_documented(method: str, path: str, code: int, body: Any) -> None:
    """Fail if the document does not say that this may be answered; no field may be there that it does not name."""
    found = [whole for pattern, whole in _PATHS.items() if pattern.fullmatch(path.partition("?")[0])]
    found = [whole for whole in found if method.lower() in DOCUMENT["paths"][whole]]
    if not found or code in (405, 500):  # no route of ours, or broken on purpose
        return
    whole = min(found, key=lambda one: one.count("{"))
    told = DOCUMENT["paths"][whole][method.lower()]["responses"]
    assert str(code) in told, f"{method} {whole} is not said to answer {code}"
    problems = [
        f"{error.json_path}: {error.message[:300]}" for error in _validator(method, whole, code).iter_errors(body)
    ]
    assert not problems, (method, whole, code, problems)


@cache
def _validator(method: str, path: str, code: int) -> Draft202012Validator:
    answer = DOCUMENT["paths"][path][method.lower()]["responses"][str(code)]["content"]["application/json"]["schema"]
    return Draft202012Validator({**answer, "components": _strict()})


@cache
def _strict() -> dict[str, Any]:
    components = copy.deepcopy(DOCUMENT["components"])
    for schema in components["schemas"].values():
        if "properties" in schema:
            schema.setdefault("additionalProperties", False)
    return components

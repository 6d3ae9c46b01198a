"""The API's document, and what the side panel takes from it; ``ask`` holds each answer against it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from api_document import DOCUMENT, assert_documented
from jsonschema import Draft202012Validator

TYPES = Path(__file__).parents[2] / "labextension" / "src" / "api" / "types.ts"
SCHEMAS: dict[str, dict[str, Any]] = DOCUMENT["components"]["schemas"]
NAMED_OTHERWISE = {"RunRow": "RunSummary", "Field": "FormField", "Check": "ToldCheck"}


def test_every_good_answer_has_a_schema_that_is_one() -> None:
    answers = {
        (method, path): next(answer for code, answer in operation["responses"].items() if code[0] == "2")
        for path, operations in DOCUMENT["paths"].items()
        for method, operation in operations.items()
    }
    schemas = {call: answer["content"]["application/json"]["schema"] for call, answer in answers.items()}
    assert [call for call, schema in schemas.items() if "$ref" not in schema] == [("get", "/openapi.json")]
    for schema in SCHEMAS.values():
        Draft202012Validator.check_schema(schema)
    text = str(DOCUMENT)
    assert set(re.findall(r"#/components/schemas/(\w+)", text)) <= SCHEMAS.keys()


def test_an_answer_that_is_not_as_documented_is_noticed() -> None:
    good = {"task": "0" * 16}
    assert_documented("POST", "hosts/box/setup", 202, good)
    for code, body in ((202, {}), (202, {"task": 5}), (202, {**good, "more": 1}), (200, good), (404, {"message": "x"})):
        with pytest.raises(AssertionError):
            assert_documented("POST", "hosts/box/setup", code, body)


def _interfaces() -> dict[str, dict[str, str]]:
    """Return the interfaces that the panel declares, with the type of each field."""
    found: dict[str, dict[str, str]] = {}
    pattern = r"export interface (\w+)(?: extends (\w+))? \{\n(.*?)\n\}"
    for name, base, content in re.findall(pattern, TYPES.read_text(), re.DOTALL):
        fields = dict(re.findall(r"^  (\w+): (.*);$", content, re.MULTILINE))
        found[name] = {**found.get(base, {}), **fields}
    return found


def _takes_null(schema: dict[str, Any]) -> bool:
    return not schema.keys() - {"title", "default"} or any(one == {"type": "null"} for one in schema.get("anyOf", ()))


@pytest.mark.parametrize("interface", sorted(_interfaces()))
def test_what_the_panel_expects_is_what_the_document_says(interface: str) -> None:
    expected = _interfaces()[interface]
    schema = SCHEMAS[NAMED_OTHERWISE.get(interface, interface)]
    said = schema["properties"]
    assert expected.keys() <= said.keys(), expected.keys() - said.keys()
    assert expected.keys() <= set(schema["required"]) | {name for name in said if "default" in said[name]}
    unexpected = [name for name, kind in expected.items() if _takes_null(said[name]) and "null" not in kind]
    assert not [name for name in unexpected if expected[name] != "unknown"]

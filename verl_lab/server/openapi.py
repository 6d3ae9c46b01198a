"""The API's own document, made from the routes and their models."""

from __future__ import annotations

import re
from importlib import metadata
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from verl_lab.server import answers, run_answers
from verl_lab.server.handler import VERSION

if TYPE_CHECKING:
    from collections.abc import Iterable

    from verl_lab.server.routing import Asked, Route

_PART = re.compile(r"\{(\w+)\}")
_REFS = "#/components/schemas/{model}"
_ABOUT = (
    "verl-lab {release}. Every answer has the header Verl-Lab-Api: {version}. Numbers that are not finite are the "
    "texts NaN, Infinity and -Infinity; times are Unix times in seconds."
)
_ERRORS = {
    "400": "An input is not acceptable; `field` names it.",
    "403": "Not logged in, or a page of another site asks.",
    "404": "There is no such thing.",
    "409": "What is there does not allow it.",
    "413": "The body is too large.",
    "429": "Too many requests.",
    "502": "A host does not answer.",
    "503": "The index is busy (Retry-After says when to ask again), cannot be used, or the server is closing.",
}
_ERROR: dict[str, Any] = {
    "type": "object",
    "required": ["message", "hint", "field"],
    "properties": {
        "message": {"type": "string"},
        "hint": {"type": ["string", "null"]},
        "field": {"type": ["string", "null"]},
        "problems": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "message"],
                "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
}


def document(routes: Iterable[Route]) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of some routes."""
    schemas: dict[str, Any] = {"Error": _ERROR}
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(f"/{route.path}", {})[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "verl-lab",
            "version": VERSION,
            "description": _ABOUT.format(release=metadata.version("verl-lab"), version=VERSION),
        },
        "servers": [{"url": "verl-lab/api"}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "apiKey", "in": "header", "name": "Authorization"}},
        },
    }


def _operation(route: Route, schemas: dict[str, Any]) -> dict[str, Any]:
    error = {"application/json": {"schema": {"$ref": _REFS.format(model="Error")}}}
    told: dict[str, Any] = {code: {"description": text, "content": error} for code, text in _ERRORS.items()}
    content = {"application/json": {"schema": _answered(route, schemas)}}
    told[str(route.status)] = {"description": "As asked.", "content": content}
    found: dict[str, Any] = {
        "operationId": f"{route.method.lower()}_{re.sub(r'[^a-z]+', '_', route.path).strip('_')}",
        "summary": route.summary,
        "parameters": [*_parts(route), *_queries(route.query, schemas)],
        "responses": told,
    }
    if route.body is not None:
        name = _added(route.body, schemas)
        content = {"application/json": {"schema": {"$ref": _REFS.format(model=name)}}}
        found["requestBody"] = {"required": True, "content": content}
    return found


def _answered(route: Route, schemas: dict[str, Any]) -> dict[str, Any]:
    """Put the schema of what a route returns where all are, by the name that its function declares."""
    name = str(route.answer.__annotations__["return"]).rpartition(".")[2]
    model = getattr(run_answers, name, None) or getattr(answers, name, None)
    if model is None:
        return {"type": "object"}
    schema = TypeAdapter(model).json_schema(ref_template=_REFS, mode="serialization")
    schemas.update(schema.pop("$defs", {}))
    schemas[name] = schema
    return {"$ref": _REFS.format(model=name)}


def _parts(route: Route) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PART.findall(route.path)
    ]


def _queries(model: type[Asked] | None, schemas: dict[str, Any]) -> list[dict[str, Any]]:
    if model is None:
        return []
    whole = model.model_json_schema(ref_template=_REFS)
    schemas.update(whole.get("$defs", {}))
    wanted = whole.get("required", ())
    return [
        {"name": name, "in": "query", "required": name in wanted, "schema": _without_null(schema)}
        for name, schema in whole["properties"].items()
    ]


def _added(model: type[Asked], schemas: dict[str, Any]) -> str:
    """Put a model's schema where all are, and return its name there: two rooms may call theirs the same."""
    name = f"{model.__module__.rpartition('.')[2]}_{model.__name__}"
    schema = model.model_json_schema(ref_template=_REFS)
    schemas.update(schema.pop("$defs", {}))
    schemas[name] = schema
    return name


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a parameter that can be left out: null cannot be said in a query."""
    kinds = [one for one in schema.get("anyOf", ()) if one != {"type": "null"}]
    if len(kinds) == 1:
        rest = {name: value for name, value in schema.items() if name not in ("anyOf", "default")}
        return {**kinds[0], **rest}
    return schema

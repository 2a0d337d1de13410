"""The API's reference at `/docs`: drawn here from OpenAPI, without a script and without anything from elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from fastapi import APIRouter, Response

from mlops.web.shell import drawn


@dataclass(frozen=True, slots=True)
class Operation:
    """A method of a path."""

    method: str
    path: str
    group: str
    about: str
    parameters: tuple[Mapping[str, Any], ...]
    bodies: tuple[str, ...]
    answers: tuple[tuple[str, str], ...]


def router(openapi: Callable[[], Mapping[str, Any]]) -> APIRouter:
    """GET /docs."""
    routes = APIRouter(include_in_schema=False)

    @routes.get("/docs")
    async def docs() -> Response:
        spec = openapi()
        schemas = {name: _pretty(schema) for name, schema in sorted(spec["components"]["schemas"].items())}
        return drawn("reference.html", title=spec["info"]["title"], operations=[*_operations(spec)], schemas=schemas)

    return routes


def _operations(spec: Mapping[str, Any]) -> Iterator[Operation]:
    for path, methods in spec["paths"].items():
        for method, operation in methods.items():
            content = operation.get("requestBody", {}).get("content", {})
            yield Operation(
                method.upper(),
                path,
                ", ".join(operation.get("tags", ())),
                operation.get("description", operation.get("summary", "")),
                tuple(operation.get("parameters", ())),
                tuple(f"{kind}: {_name(body['schema'])}" for kind, body in content.items()),
                tuple((status, answer["description"]) for status, answer in operation["responses"].items()),
            )


def _name(schema: Mapping[str, Any]) -> str:
    """What a schema is called."""
    if schema.get("type") == "array":
        return f"list of {_name(schema['items'])}"
    return str(schema.get("$ref", "")).rpartition("/")[2] or str(schema.get("type", "any"))


def _pretty(schema: object) -> str:
    return orjson.dumps(schema, option=orjson.OPT_INDENT_2).decode()

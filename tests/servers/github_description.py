"""GitHub's own OpenAPI description of its REST interface, and its GraphQL schema: what a request and an answer must be.

Both come from npm (`@octokit/openapi`, `@octokit/graphql-schema`), below the directory that MODELGUARD_NPM names. Installing them is a
step of .ci/run; a machine without them serves the same answers unchecked, and only CI requires the check.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graphql import GraphQLSchema, build_schema, parse, validate
from openapi_schema_validator import OAS30Validator
from referencing import Registry
from referencing.jsonschema import DRAFT202012

PLACE = Path(os.environ.get("MODELGUARD_NPM") or Path.home() / ".cache/modelguard-tests/npm") / "node_modules/@octokit"
REST, GRAPHQL = PLACE / "openapi/generated/api.github.com.json", PLACE / "graphql-schema/schema.graphql"
HOW = "npm install --prefix DIRECTORY @octokit/openapi @octokit/graphql-schema, and MODELGUARD_NPM=DIRECTORY"


@dataclass(frozen=True)
class Description:
    """One published description of the REST interface."""

    document: Mapping[str, object]

    def example(self, name: str) -> dict[str, object]:
        """A fresh copy of the example document of that name; of a list, its first item."""
        example = _at(self.document, "components", "examples", name).get("value")
        found = json.loads(json.dumps(example))
        return dict(found[0] if isinstance(found, list) else found)

    def request_faults(self, method: str, path: str, query: Mapping[str, str], body: object) -> Iterator[str]:
        """What the description does not allow in a request."""
        operation = self._operation(method, path)
        if operation is None:
            yield f"{method} {path}: no such operation"
            return
        parameters = {str(item["name"]): item for item in map(self._resolved, _list(operation, "parameters")) if item.get("in") == "query"}
        for name, value in query.items():
            if name not in parameters:
                yield f"{method} {path}: the query parameter {name} is not described"
                continue
            schema = self._resolved(_at(parameters[name], "schema"))
            typed: object = int(value) if schema.get("type") == "integer" and value.isdecimal() else value
            yield from self._faults(typed, schema, f"{method} {path}?{name}")
        content = _at(operation, "requestBody", "content", "application/json", "schema")
        if body is not None and not content:
            yield f"{method} {path}: no body is described"
        elif body is not None or _at(operation, "requestBody").get("required"):
            yield from self._faults(body, content, f"{method} {path}: body")
            yield from (f"{method} {path}: {name} is not described" for name in _unknown(body, content))

    def answer_faults(self, method: str, path: str, status: int, body: object) -> Iterator[str]:
        """What the description does not allow in an answer. Faults that any operation may meet (limits, 5xx) need no description."""
        operation = self._operation(method, path)
        described = _at(operation or {}, "responses", str(status))
        if not described:
            if status < 400:
                yield f"{method} {path}: the status {status} is not described"
            return
        schema = _at(self._resolved(described), "content", "application/json", "schema")
        if schema:
            yield from self._faults(body, schema, f"{method} {path}: answer {status}")

    def _operation(self, method: str, path: str) -> Mapping[str, object] | None:
        """The operation whose path has the fewest variables of those that match."""
        parts = path.split("/")
        matches = [
            (template.count("{"), template)
            for template in _at(self.document, "paths")
            if len(names := template.split("/")) == len(parts)
            and all(name.startswith("{") or name == part for name, part in zip(names, parts, strict=True))
            and method.lower() in _at(self.document, "paths", template)
        ]
        return _at(self.document, "paths", min(matches)[1], method.lower()) if matches else None

    def _resolved(self, item: object) -> Mapping[str, object]:
        reference = item.get("$ref") if isinstance(item, dict) else None
        return (
            _at(self.document, *str(reference).removeprefix("#/").split("/")) if reference else dict(item) if isinstance(item, dict) else {}
        )

    def _faults(self, value: object, schema: Mapping[str, object], where: str) -> Iterator[str]:
        if isinstance(value, list):  # the description discriminates directories, which are lists, by a property: oneOf tells them apart
            schema = {key: part for key, part in schema.items() if key != "discriminator"}
        rooted = json.loads(json.dumps(schema).replace('"#/', '"urn:github#/'))
        validator = OAS30Validator(rooted, registry=_registry())
        for error in list(validator.iter_errors(value))[:5]:
            yield f"{where}: {'/'.join(map(str, error.absolute_path))}: {error.message[:300]}"


@functools.cache
def description() -> Description | None:
    """The description, where it is installed."""
    return Description(json.loads(REST.read_text())) if REST.exists() else None


@functools.cache
def graphql_schema() -> GraphQLSchema | None:
    """The GraphQL schema, where it is installed."""
    return build_schema(GRAPHQL.read_text(), assume_valid=True) if GRAPHQL.exists() else None


def graphql_faults(query: str) -> Iterator[str]:
    """What GitHub's schema does not allow in a query."""
    schema = graphql_schema()
    if schema is not None:
        yield from (f"GraphQL: {error.message}" for error in validate(schema, parse(query)))


@functools.cache
def _registry() -> Registry[Any]:
    found = description()
    assert found is not None
    registry: Registry[Any] = Registry()
    described: Registry[Any] = registry.with_resource("urn:github", DRAFT202012.create_resource(found.document))
    return described


def _at(item: object, *keys: str) -> Mapping[str, object]:
    for key in keys:
        item = item.get(key) if isinstance(item, Mapping) else None
    return item if isinstance(item, Mapping) else {}


def _list(item: Mapping[str, object], key: str) -> list[object]:
    found = item.get(key)
    return found if isinstance(found, list) else []


def _unknown(body: object, schema: Mapping[str, object]) -> list[str]:
    """Properties that are not described: GitHub ignores them, so that a misspelt one would do nothing."""
    return sorted(set(body) - set(_at(schema, "properties"))) if isinstance(body, dict) and "properties" in schema else []

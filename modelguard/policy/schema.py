"""The JSON Schema of the policy file, made from the types that read it."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from modelguard.policy.document import ALPHA_LIMIT, Document

TITLE = "modelguard policy (.modelguard.yml)"


def schema_text() -> str:
    """The schema as it is published: JSON, sorted, with a newline at its end."""
    schema: dict[str, Any] = msgspec.json.schema(Document)
    fields = schema["$defs"]["Document"]["properties"]
    fields["version"] |= {"const": 1}
    fields["alpha"] |= {"exclusiveMinimum": 0, "maximum": ALPHA_LIMIT}
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": TITLE, **schema}
    return json.dumps(schema, indent=2, sort_keys=True) + "\n"

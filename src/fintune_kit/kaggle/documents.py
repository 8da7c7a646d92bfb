"""Reads and checks JSON documents from the network.

    session.json     {"kernel": "02_pack", "cards": [], "machine": "CPU (4 cores)", "library": "fintune_kit-...", ...}
    manifest.json    {"stage": "packed", "inputs": {"conversations": SHA-256}, "files": {"a.arrow": SHA-256}, ...}
    plan.json        {"recipe": {...}, "packed": SHA-256, "base": "...", ...}

A session writes `session.json` beside its output. The stages write the other two.
"""

import json
from collections.abc import Mapping
from typing import Any

from fintune_kit.errors import UserError

RECORD = "session.json"
RECORD_FIELDS: Mapping[str, type] = {"kernel": str, "cards": list, "machine": str, "library": str}
MANIFEST_FIELDS: Mapping[str, type] = {"stage": str, "files": dict}


def read_document(content: bytes, *, name: str, fields: Mapping[str, type] | None = None) -> dict[str, Any]:
    """A JSON object from the network.

    Args:
        name: its source, for errors.
        fields: the keys that it must have, each with its type. Lists and objects must hold texts.

    Raises:
        UserError: it is not a JSON object, or a field is missing or of another type.
    """
    try:
        document = json.loads(content.decode("utf-8"))
    except ValueError as error:
        raise UserError(f"{name} is damaged: it is not JSON ({error}); run the same command again") from error
    if not isinstance(document, dict):
        raise UserError(f"{name} holds {type(document).__name__}, expected an object: run its notebook again")
    for key, kind in (fields or {}).items():
        value = document.get(key)
        parts = [] if kind is str else value.values() if isinstance(value, dict) else value
        if not isinstance(value, kind) or not all(isinstance(part, str) for part in parts or []):
            raise UserError(f"{name} has {key} {str(value)[:60]!r}, expected {kind.__name__}: run its notebook again")
    return document

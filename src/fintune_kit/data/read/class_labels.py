"""Columns of class numbers whose names the `datasets` library keeps beside them: 0 and 1 for `["bad", "good"]`.

The numbers are read as their names; -1 stands for a row without a label.
"""

import json
from collections.abc import Mapping
from typing import Any

Names = dict[str, list[str]]
"""Column to the names of its classes."""


def names_in_features(features: Mapping[str, Any] | None) -> Names:
    """The names in the features of a hub dataset, as the library gives them."""
    return {column: list(feature.names) for column, feature in (features or {}).items() if hasattr(feature, "names")}


def names_in_metadata(metadata: Mapping[bytes, bytes] | None) -> Names:
    """The names in the metadata that the library writes into Parquet and Arrow files; none where it wrote none."""
    try:
        features = json.loads((metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        return {
            column: list(feature["names"])
            for column, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
        }
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}


def with_names(values: Mapping[str, Any], names: Names) -> dict[str, Any]:
    """A row with its class numbers replaced by their names."""
    if not names:
        return dict(values)
    return {column: _name(value, names[column]) if column in names else value for column, value in values.items()}


def _name(value: Any, names: list[str]) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value or value != int(value):
        return value
    return names[int(value)] if 0 <= value < len(names) else None if value == -1 else value

# SPDX-License-Identifier: MIT
"""The layers of a Keras 2 model as its JSON describes them."""

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class KerasLayer:
    """One layer: its class, its name and the rest of what is said of it."""

    kind: str
    name: str
    config: dict[str, Any]


def described_layers(text: str | bytes) -> list[KerasLayer]:
    """The layers in order, as plain data; none where this describes something else. Never raises.

    The trainer of cartwheel wrote the JSON of a model as a JSON string, so it is read twice.
    """
    try:
        model = json.loads(text)
        model = json.loads(model) if isinstance(model, str) else model
        return [
            KerasLayer(each["class_name"], each["config"]["name"], each["config"])
            for each in model["config"]["layers"]
        ]
    except (ValueError, KeyError, TypeError, RecursionError):
        return []

# SPDX-License-Identifier: MIT
"""Which layers learn: all, or those after a named one."""

from typing import Any

from netvlad_ros.errors import ModelError


def freeze(model: Any, up_to: str) -> None:
    """Layers up to the one of this name, itself included, keep their weights; empty lets all learn.

    A whitening within the network learns too.
    Raises ModelError for a name that no layer has.
    """
    names = [layer.name for layer in model.layers]
    if up_to and up_to not in names:
        raise ModelError(
            f"initial.frozen_up_to: there is no layer {up_to!r}; it has {', '.join(names[1:])}."
        )
    last = names.index(up_to) if up_to else -1
    for number, layer in enumerate(model.layers):
        layer.trainable = number > last
    if not model.trainable_variables:
        raise ModelError(
            f"initial.frozen_up_to: expected a layer before the last that has weights, got {up_to!r}; "
            "nothing would be left to learn."
        )

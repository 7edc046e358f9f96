# SPDX-License-Identifier: MIT
"""A network run layer by layer: each output is seen on its way, and any layer can be done otherwise."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np

from netvlad_ros.model import NetVLADNetwork

# What is done in place of a layer: the layer, its input -> its output.
Change = Callable[[keras.layers.Layer, Any], Any]


def layer_outputs(
    network: NetVLADNetwork, image: np.ndarray, changes: Mapping[str, Change] | None = None
) -> Iterator[tuple[str, np.ndarray]]:
    """Name and output of each layer in the order of the network, the batch axis left out.

    image:   (H, W, 3) RGB values 0..255; it is the output of the first layer, which is the input.
    changes: by name of a layer, what is done in its place.
    What no later layer needs is let go: a deep network takes the memory of its largest two or three outputs.
    """
    needed = Counter(id(tensor) for layer in network.layers for tensor in inputs_of(layer))
    batch = keras.ops.convert_to_tensor(image[None], "float32")
    values: dict[int, Any] = {}
    for layer in network.layers:
        taken = [values[id(tensor)] for tensor in inputs_of(layer)]
        x = (taken[0] if len(taken) == 1 else taken) if taken else batch
        value = (changes or {}).get(layer.name, _as_it_is)(layer, x)
        values[id(layer.output)] = value
        for tensor in inputs_of(layer):
            needed[id(tensor)] -= 1
            if not needed[id(tensor)]:
                del values[id(tensor)]
        yield layer.name, keras.ops.convert_to_numpy(value)[0]


def inputs_of(layer: keras.layers.Layer) -> list[Any]:
    """The symbolic tensors that a layer takes; none for the input itself."""
    return [] if isinstance(layer, keras.layers.InputLayer) else keras.tree.flatten(layer.input)


def _as_it_is(layer: keras.layers.Layer, x: Any) -> Any:
    return x if isinstance(layer, keras.layers.InputLayer) else layer(x)

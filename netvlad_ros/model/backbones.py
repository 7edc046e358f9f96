# SPDX-License-Identifier: MIT
"""Convolutional networks up to the layer whose output is aggregated."""

from typing import Any

import keras
from keras import layers

from netvlad_ros.config import NetworkConfig
from netvlad_ros.errors import ModelError
from netvlad_ros.model.rootsift import rootsift

USUAL_CUT = {
    "vgg16": "block5_conv3",
    "alexnet": "conv5",
    "mobilenet": "conv_pw_13_relu",
    "mobilenet_v2": "out_relu",
    "rootsift": "patches",
}

# Filters, kernel, stride and padding of each convolution, and whether a pooling follows its ReLU.
# Krizhevsky, One weird trick for parallelizing convolutional neural networks, as torchvision has it.
_ALEXNET = [
    (64, 11, 4, 2, True),
    (192, 5, 1, 2, True),
    (384, 3, 1, 1, False),
    (256, 3, 1, 1, False),
    (256, 3, 1, 1, True),
]


def local_features(image: Any, config: NetworkConfig) -> Any:
    """(B, H, W, C) normalised input -> (B, h, w, D) local features.

    A convolution at the cut keeps its sign: NetVLAD takes conv5_3 before its ReLU.
    Raises ModelError for a layer that the backbone does not have.
    """
    network = _complete_backbone(image, config)
    name = config.cut_layer or USUAL_CUT[config.backbone]
    try:
        cut = network.get_layer(name)
    except ValueError:
        known = ", ".join(layer.name for layer in network.layers[1:])
        raise ModelError(
            f"{config.backbone} has no layer {name!r} to cut at; it has {known}."
        ) from None
    if isinstance(cut, layers.Conv2D):
        cut.activation = keras.activations.linear
    return cut.output


def _complete_backbone(image: Any, config: NetworkConfig) -> keras.Model:
    options = {"include_top": False, "weights": None, "input_tensor": image}
    match config.backbone:
        case "vgg16":
            return keras.applications.VGG16(**options)
        case "mobilenet":
            return keras.applications.MobileNet(alpha=config.backbone_width, **options)
        case "mobilenet_v2":
            return keras.applications.MobileNetV2(alpha=config.backbone_width, **options)
        case "rootsift":
            return rootsift(image, config.backbone_width)
        case _:
            return _alexnet(image)


def _alexnet(image: Any) -> keras.Model:
    x = image
    for number, (filters, kernel, stride, padding, pool) in enumerate(_ALEXNET, start=1):
        x = layers.ZeroPadding2D(padding, name=f"pad{number}")(x)
        x = layers.Conv2D(filters, kernel, stride, name=f"conv{number}")(x)
        x = layers.ReLU(name=f"relu{number}")(x)
        x = layers.MaxPooling2D(3, 2, name=f"pool{number}")(x) if pool else x
    return keras.Model(image, x, name="alexnet")

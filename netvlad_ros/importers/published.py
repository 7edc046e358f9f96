# SPDX-License-Identifier: MIT
"""The weights that other projects have published: where they are, and how to know the right ones."""

import difflib
from dataclasses import dataclass

from netvlad_ros.errors import WeightsError


@dataclass(frozen=True)
class PublishedWeights:
    """One file that others have published.

    file:         what it is called once it is here.
    addresses:    where it is; each is tried in turn.
    input_preset: how its input is scaled, for `netvlad import-weights --input`; empty where the file says so.
    """

    name: str
    file: str
    addresses: tuple[str, ...]
    size_bytes: int
    sha256: str
    meaning: str
    licence: str
    input_preset: str = ""


_OPEN_MODEL_ZOO = "https://storage.openvinotoolkit.org/repositories/open_model_zoo/public/2022.1/"
# The last commit of mpkuse/cerebro that holds them all.
_CEREBRO = (
    "https://raw.githubusercontent.com/mpkuse/cerebro/1dea0b09e12e99d56cc9938bf804949d94b4d4b9/"
    "scripts/keras.models/"
)
_CEREBRO_LICENCE = "unclear: mpkuse/cerebro names none"


def _june_2019(kind: str, file: str) -> str:
    return f"{_CEREBRO}June2019/centeredinput-m1to1-240x320{kind}__K16__allpairloss/{file}"


_ALL = (
    # Size, SHA-256 and addresses: models/public/netvlad-tf/model.yml of OpenVINO's Open Model Zoo.
    PublishedWeights(
        "netvlad-tf-pitts30k",
        "vd16_pitts30k_conv5_3_vlad_preL2_intra_white.zip",
        (
            f"{_OPEN_MODEL_ZOO}netvlad-tf/vd16_pitts30k_conv5_3_vlad_preL2_intra_white.zip",
            "http://rpg.ifi.uzh.ch/datasets/netvlad/vd16_pitts30k_conv5_3_vlad_preL2_intra_white.zip",
        ),
        1_108_966_217,
        "a6849eb7e2f9236c8ba87b89c1cf6ce97142296ce71683d8fc843f0569c022ea",
        "VGG16-NetVLAD with whitening, 4096 dimensions, trained on Pittsburgh; the NetVLAD authors' best, "
        "as uzh-rpg/netvlad_tf_open converted it",
        "MIT",
    ),
    PublishedWeights(
        "cartwheel-mobilenetv2-grey",
        "cartwheel-mobilenetv2-grey.h5",
        (_june_2019("x1__mobilenetv2-block_9_add", "modelarch_and_weights.2000.h5"),),
        1_279_280,
        "5fadd85324c0ea65f7eff7b6772b4b43931aec11ae29c57794754b28b7091b53",
        "MobileNetV2, grey, 1024 dimensions",
        _CEREBRO_LICENCE,
        "cartwheel-centred",
    ),
    PublishedWeights(
        "cartwheel-mobilenetv2-colour",
        "cartwheel-mobilenetv2-colour.h5",
        (_june_2019("x3__mobilenetv2-block_9_add", "modelarch_and_weights.800.h5"),),
        1_282_704,
        "c45ca8a492d7a7a3d8814b1ba212a6fc06b5d0084e8eaaa47e9d4353d0ead4fb",
        "MobileNetV2, colour, 1024 dimensions",
        _CEREBRO_LICENCE,
        "cartwheel-centred",
    ),
    PublishedWeights(
        "cartwheel-mobilenet-colour",
        "cartwheel-mobilenet-colour.h5",
        (_june_2019("x3__mobilenet-conv_pw_6_relu", "modelarch_and_weights.700.h5"),),
        1_290_464,
        "cac1c3a11cd5928a6fb49738b75de86171765ea0d28e68a4ed3a0cebab9d4f23",
        "MobileNet, colour, 8192 dimensions",
        _CEREBRO_LICENCE,
        "cartwheel-centred",
    ),
    PublishedWeights(
        "cartwheel-mobilenet-grey",
        "cartwheel-mobilenet-grey.h5",
        (f"{_CEREBRO}Apr2019/gray_conv6_K16__centeredinput/core_model.1000.keras",),
        712_856,
        "105ac55d703448ba1447c5e9a66ce893555b308a86ac0ee7ae775821b6431de8",
        "MobileNet, grey, 4096 dimensions; cartwheel-centred works as well",
        _CEREBRO_LICENCE,
        "cartwheel-half-centred",
    ),
    PublishedWeights(
        "cartwheel-mobilenet-raw",
        "cartwheel-mobilenet-raw.h5",
        (f"{_CEREBRO}core_model.keras",),
        2_389_864,
        "7b0110336a8e2c3ae78806f56ffd2549eed6be860a8dddec83411dedf40d3017",
        "MobileNet, colour, 8192 dimensions, from before its authors centred the input",
        _CEREBRO_LICENCE,
        "cartwheel-raw",
    ),
    PublishedWeights(
        "cartwheel-mobilenet-default",
        "cartwheel-mobilenet-default.h5",
        (f"{_CEREBRO}mobilenet_conv7_allpairloss.keras",),
        2_389_864,
        "f3b0978c4bea3a10cea267a22ebcdfd2614e0598f936df3791a18d2d47ab4267",
        "MobileNet, colour, 8192 dimensions; what cerebro runs unless told otherwise",
        _CEREBRO_LICENCE,
        "cartwheel-raw",
    ),
)
PUBLISHED = {weights.name: weights for weights in _ALL}


def published(name: str) -> PublishedWeights:
    """The weights of this name. Raises WeightsError with the nearest name there is."""
    if name in PUBLISHED:
        return PUBLISHED[name]
    near = difflib.get_close_matches(name, PUBLISHED, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(PUBLISHED)}."
    raise WeightsError(f"no published weights are known as {name!r}; {hint}")

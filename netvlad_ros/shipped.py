# SPDX-License-Identifier: MIT
"""Where the model lies that comes with this package; taken where none is named, or by its name, compact.

It lies there twice: for TensorFlow, and for LiteRT, which takes one size of images only.
"""

from pathlib import Path

from netvlad_ros.errors import ModelError

SHIPPED_MODEL = Path(__file__).with_name("pretrained") / "compact.keras"
SHIPPED_LITERT = SHIPPED_MODEL.with_suffix(".tflite")
LITERT_SIZE_PX = (320, 240)
SHIPPED_NAME = "compact"
HELP = "left out, the one that comes with this package"


def is_shipped(path: Path) -> bool:
    """Whether it is the model that comes with this package."""
    return path == SHIPPED_MODEL


def model_path(model: str | Path | None = None) -> Path:
    """The model file of this name; of none and of `compact`, the shipped one.

    Raises ModelError if that is gone.
    """
    named = str(model or SHIPPED_NAME)
    if named != SHIPPED_NAME or Path(named).exists():
        return Path(named)
    if not SHIPPED_MODEL.is_file():
        raise ModelError(
            f"{SHIPPED_MODEL}: the model that comes with this package is missing; install the package again, "
            "or name a model file (extractor.model)."
        )
    return SHIPPED_MODEL

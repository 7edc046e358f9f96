# SPDX-License-Identifier: MIT
"""Where the model lies that comes with this package and is taken when no other is named."""

from pathlib import Path

from netvlad_ros.errors import ModelError

SHIPPED_MODEL = Path(__file__).with_name("models") / "compact.keras"
HELP = "left out, the one that comes with this package"


def model_path(model: str | Path | None = None) -> Path:
    """The model file of this name; of an empty one, the shipped one. Raises ModelError if that is gone."""
    if model is not None and str(model):
        return Path(model)
    if not SHIPPED_MODEL.is_file():
        raise ModelError(
            f"{SHIPPED_MODEL}: the model that comes with this package is missing; install the package again, "
            "or name a model file (extractor.model)."
        )
    return SHIPPED_MODEL

# SPDX-License-Identifier: MIT
"""Where the model lies that comes with this package; taken where none is named, or by its name, compact."""

from pathlib import Path

from netvlad_ros.errors import ModelError

SHIPPED_MODEL = Path(__file__).with_name("pretrained") / "compact.keras"
SHIPPED_NAME = "compact"
HELP = "left out, the one that comes with this package"


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

# SPDX-License-Identifier: MIT
"""Matplotlib's figures as files that depend on what they show only."""

import warnings
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from netvlad_ros.errors import NetVLADError


def save_figure(figure: Figure, path: Path) -> None:
    """Writes the file without a date or a version. Raises NetVLADError."""
    FigureCanvasAgg(figure)
    try:
        with warnings.catch_warnings():  # a name may have letters that the font lacks
            warnings.simplefilter("ignore", UserWarning)
            figure.savefig(path, metadata={"Software": None})
    except (OSError, ValueError) as error:  # ValueError for a suffix that is no kind of picture
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise NetVLADError(f"{path}: can't write the picture ({reason}).") from None

# SPDX-License-Identifier: MIT
"""Which similarity, sequence score and margin reach a wanted precision, from matches that were judged."""

import math
from collections.abc import Sequence

from netvlad_ros.calibration import MARGIN, SEQUENCE_SCORE, SIMILARITY
from netvlad_ros.keyframe import Match


def best_by_quantity(matches: Sequence[Match]) -> dict[str, tuple[Match, float]]:
    """Of each quantity that can be a limit, the match that it ranks first, and its value.

    The margin is that of the best sequence score. Quantities that were not computed are left out.
    """
    alike = max(matches, key=lambda match: match.similarity)
    found = {SIMILARITY: (alike, alike.similarity)}
    scored = [match for match in matches if not math.isnan(match.sequence_score)]
    if scored:
        fits = max(scored, key=lambda match: match.sequence_score)
        found[SEQUENCE_SCORE] = (fits, fits.sequence_score)
        found[MARGIN] = (fits, fits.margin)
    return found

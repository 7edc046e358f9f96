# SPDX-License-Identifier: MIT
"""Under which conditions the loops of a sequence are counted; under others the figures are others.

Named protocols are those of published figures.
"""

from dataclasses import dataclass

from netvlad_ros.errors import DatasetError


@dataclass(frozen=True)
class SequenceProtocol:
    """What decides whether a match is right, and what may be matched.

    radius_m:              how far the match may be; without positions, the ground truth lists what is right.
    radius_is_inside:      whether a match exactly so far is right.
    heading_tolerance_deg: matches look the same way up to this; None where headings don't matter.
    exclude_images:        images up to this many before (and after) the query are never matched.
    exclude_s:             nor are those that are less than so many seconds away.
    causal:                only earlier images are matched, as on a robot.
    tolerance_images:      images so many before and after a listed one are right too.
    descriptor_dims:       the first dimensions only, not normalised again; 0 for all.
    auc_from_second:       the area leaves out the first match, as netvlad_tf_open sums it up.
    of_detector:           only keyframes count, which a LoopDetector has chosen and looked up; it excludes.
    """

    name: str = ""
    radius_m: float = 5.0
    radius_is_inside: bool = True
    heading_tolerance_deg: float | None = None
    exclude_images: int = 0
    exclude_s: float = 0.0
    causal: bool = True
    tolerance_images: int = 0
    descriptor_dims: int = 0
    auc_from_second: bool = False
    of_detector: bool = False

    def conditions(self, from_list: bool) -> str:
        """All of it in words.

        from_list: whether the ground truth is a list of images instead of positions.
        """
        if from_list:
            right = f"listed in the ground truth, tolerance {self.tolerance_images} images"
        else:
            edge = "within" if self.radius_is_inside else "nearer than"
            tolerance = self.heading_tolerance_deg
            heading = "any heading" if tolerance is None else f"headings within {tolerance:g}°"
            right = f"{edge} {self.radius_m:g} m, {heading}"
        sides = "before" if self.causal else "before and after"
        windows = [f"{self.exclude_images} images"] if self.exclude_images else []
        windows += [f"{self.exclude_s:g} s"] if self.exclude_s else []
        window = (
            f"the {' and '.join(windows)} {sides} excluded" if windows else "no exclusion window"
        )
        causality = "earlier images only" if self.causal else "earlier and later images"
        dims = (
            f"first {self.descriptor_dims} dimensions" if self.descriptor_dims else "all dimensions"
        )
        name = f"{self.name}: " if self.name else ""
        chosen = "; keyframes only" if self.of_detector else ""
        return f"{name}{right}; {window}; {causality}; {dims}{chosen}"


PROTOCOLS = {
    # uzh-rpg/netvlad_tf_open, tests/test_kitti.py and matlab/kitti_pr.m; its images are those of image_0.
    "kitti00-netvlad_tf_open": SequenceProtocol(
        "kitti00-netvlad_tf_open",
        radius_m=5.0,
        radius_is_inside=False,
        exclude_images=250,
        causal=False,
        descriptor_dims=128,
        auc_from_second=True,
    ),
}


def named_protocol(name: str) -> SequenceProtocol:
    """Raises DatasetError for a name that there is not."""
    if name not in PROTOCOLS:
        raise DatasetError(f"protocol {name}: expected one of {', '.join(PROTOCOLS)}.")
    return PROTOCOLS[name]

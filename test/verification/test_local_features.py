# SPDX-License-Identifier: MIT
"""Local features are found in dark images too, and travel the way their points are known."""

import numpy as np
from made_up_views import CAMERA, pose, standing

from netvlad_ros.config import VerificationConfig
from netvlad_ros.verification.features import feature_extractor
from netvlad_ros.verification.image_data_maker import ImageDataMaker
from netvlad_ros.verification.sensors import Sensors

CONFIG = VerificationConfig(max_features=500)
RNG = np.random.default_rng(0)
PICTURE = np.kron(RNG.integers(0, 256, (48, 64)), np.ones((10, 10))).astype(np.uint8)
NIGHT = (10 + PICTURE // 16).astype(np.uint8)


def test_equal_contrast_finds_features_in_the_dark() -> None:
    extractor = feature_extractor(CONFIG)
    assert extractor is not None
    assert len(extractor.extract(NIGHT)) > 400
    assert len(extractor.extract(NIGHT, equalise=False)) == 0


def test_contrast_stays_as_it_is_where_points_follow_from_motion_only() -> None:
    at = Sensors(CAMERA, odometry=pose(standing()))
    depth = Sensors(CAMERA, np.full((480, 640), 4.0, np.float32), odometry=pose(standing()))
    features = [ImageDataMaker(CONFIG).make(NIGHT, sensors).features for sensors in (at, depth)]
    assert features[0] is not None
    assert features[1] is not None
    assert len(features[0]) == 0
    assert len(features[1]) > 400

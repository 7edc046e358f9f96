# SPDX-License-Identifier: MIT
"""Every tunable value of nodes and commands once; files, `--set` and ROS parameters are made from this."""

import dataclasses
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from netvlad_ros.config.parameter import Section, param, parameters

# What database.mode may be.
MAPPING, LOCALISATION, BOTH = "mapping", "localisation", "both"


@dataclass(frozen=True)
class CameraConfig(Section):
    """Where images come from, and whose they are."""

    robot: str = param(
        "", "Name of the robot, written into every message; empty if there is only one."
    )
    name: str = param(
        "", "Name of the camera, written into every message; empty takes frame_id of its images."
    )
    compressed: bool = param(False, "Subscribe to sensor_msgs/CompressedImage instead of Image.")
    converter: str = param(
        "auto",
        "What turns messages into RGB: cv_bridge where it works with the installed numpy, or OpenCV.",
        choices=("auto", "cv_bridge", "opencv"),
    )
    depth_is_picture: bool = param(
        False,
        "Take 16UC1 images for grey pictures, as some thermal cameras send them; otherwise they are "
        "refused, as they usually hold depth.",
    )
    max_pixels: int = param(
        100_000_000,
        "Images of more pixels than this are refused before they are decoded: a small file may hold a "
        "picture that takes all memory.",
        ge=1,
        le=1 << 30,
    )


DEFAULT_CAMERA = CameraConfig()


@dataclass(frozen=True)
class ExtractorConfig(Section):
    """How an image becomes a descriptor."""

    model: str = param(
        "",
        "Path of the model file; .keras, or what netvlad export wrote: its kind tells the runtime. Empty "
        "takes the model that comes with this package.",
    )
    runtime: str = param(
        "auto",
        "What runs the network. auto: the model that comes with this package runs in TensorFlow where there "
        "is a GPU, and in LiteRT where not; other files as their kind says.",
        choices=("auto", "tensorflow", "litert", "openvino", "onnx"),
    )
    device: str = param(
        "auto",
        "Where the network runs; auto takes a GPU if there is one.",
        choices=("auto", "cpu", "gpu"),
    )
    threads: int = param(
        0, "CPU threads for one image; 0 takes what the runtime chooses.", ge=0, le=256
    )
    resize: bool = param(True, "Resize images to the input size; if false, their own size is kept.")
    input_width_px: int = param(0, "Input width in pixels; 0 takes the model's own.", ge=0, le=8192)
    input_height_px: int = param(
        0, "Input height in pixels; 0 takes the model's own.", ge=0, le=8192
    )
    descriptor_dims: int = param(
        0, "Keep the first dimensions only and normalise again; 0 keeps all.", ge=0, le=1_000_000
    )
    min_side_px: int = param(
        32, "Images with a shorter side than this, in pixels, are refused.", ge=1, le=8192
    )
    min_contrast: float = param(
        1.0,
        "Images whose grey levels (0 to 255) have a standard deviation below this are refused: "
        "darkness looks like every other darkness.",
        ge=0.0,
        le=128.0,
        live=True,
    )


@dataclass(frozen=True)
class KeyframeConfig(Section):
    """Which images are kept in the database and looked up there."""

    min_interval_s: float = param(
        0.5, "Least time between two keyframes, in seconds.", ge=0.0, le=3600.0, live=True
    )
    min_descriptor_change: float = param(
        0.02,
        "Least change since the last keyframe, as 1 - cosine similarity; with 0 a robot that stands "
        "still fills the database with one view.",
        ge=0.0,
        le=2.0,
        live=True,
    )
    requested: bool = param(
        False,
        "Images whose stamps arrive on keyframe_requests become keyframes, as a back-end chooses them, and "
        "no others; they carry its numbers.",
    )
    hold_s: float = param(
        2.0, "How long images wait for such a request, in seconds.", ge=0.0, le=60.0, live=True
    )


@dataclass(frozen=True)
class DatabaseConfig(Section):
    """How keyframes are indexed, looked up and stored."""

    mode: str = param(
        MAPPING,
        "What becomes of keyframes: mapping adds them to the database; localisation adds none, opens the "
        "file for reading only, and tells where in the map the robot is; both adds them and tells that.",
        choices=(MAPPING, LOCALISATION, BOTH),
        live=True,
    )
    path: str = param(
        "",
        "Database file that is loaded at start and saved at shutdown; empty keeps it in memory only.",
        live=True,
    )
    autosave_s: float = param(
        30.0,
        "Save new keyframes every so many seconds; 0 saves at shutdown only.",
        ge=0.0,
        le=86400.0,
    )
    map: str = param(
        "", "Name of the map that new keyframes belong to; empty if there is only one."
    )
    max_matches: int = param(20, "How many matches a search returns.", ge=1, le=1000, live=True)
    matches_with_data: int = param(
        5,
        "How many of them, the best ones, bring along what is known of them: local features, camera, pose.",
        ge=0,
        le=100,
        live=True,
    )
    max_alike: int = param(
        0,
        "How many keyframes of one place that look alike are kept, one a lap: a new one that matches so "
        "many by similarity alone goes once the robot has left, if loop closures say that it is the place. "
        "Other light stays, and what is the only one of its place. 0 keeps all.",
        ge=0,
        le=100,
        live=True,
    )
    max_keyframes: int = param(
        0,
        "With so many keyframes the map is full: new ones are looked up and not added. 0: no limit.",
        ge=0,
        le=100_000_000,
        live=True,
    )
    exclude_recent_s: float = param(
        30.0,
        "Keyframes that the same robot saw within so many seconds of drive never match.",
        ge=0.0,
        le=86400.0,
        live=True,
    )
    sequence_length: int = param(
        12,
        "How many of the last keyframes are compared with those before a match, in driving order; 1 "
        "compares single images only.",
        ge=1,
        le=100,
        live=True,
    )
    sequence_backwards: bool = param(
        False,
        "Compare them with the keyframes after a match too, for cameras that see the same from both "
        "directions.",
        live=True,
    )


@dataclass(frozen=True)
class CandidateConfig(Section):
    """When a match is reported as a loop-closure candidate."""

    min_similarity: float | str = param(
        "model",
        "Cosine similarity with which a match is a candidate, whatever its sequence. With `model` the "
        "model's own calibration tells where min_precision is reached; one without needs a number, about "
        "0.45 with whitening, 0.8 without.",
        ge=-1.0,
        le=1.0,
        words=("model",),
        live=True,
    )
    min_sequence_score: float | str = param(
        "model",
        "Sequence score with which a match is a candidate, whatever its similarity. With `model` as above; a "
        "model without a calibration asks for similarity only.",
        ge=0.0,
        le=100.0,
        words=("model",),
        live=True,
    )
    min_margin: float | str = param(
        "any",
        "How far above that of the best other place such a sequence score must be; of a place that was "
        "visited twice before it is about 0.",
        ge=-100.0,
        le=100.0,
        words=("any",),
        live=True,
    )
    min_precision: float = param(
        0.5,
        "How many of the matches that just reach a limit are right, where the limit is left to the model; of "
        "all that reach it more are.",
        ge=0.5,
        le=1.0,
        live=True,
    )
    min_consistent_queries: int = param(
        1,
        "How many consecutive queries, this one included, must have found the same place.",
        ge=1,
        le=100,
        live=True,
    )
    max_keyframe_gap: int = param(
        5,
        "How far apart, in keyframes, the matches of consecutive queries may lie to be the same place.",
        ge=0,
        le=10000,
        live=True,
    )
    max_candidates: int = param(
        3, "How many candidates a query may have.", ge=1, le=1000, live=True
    )


@dataclass(frozen=True)
class SensorsConfig(Section):
    """What comes with the images, to give keyframes points in metres and a pose by odometry."""

    points_from: str = param(
        "auto",
        "What tells how far features are away: a depth image, the right image of a stereo pair, or odometry "
        "between keyframes (motion); auto takes the first of these that is published.",
        choices=("auto", "depth", "stereo", "motion"),
    )
    rectified: bool = param(
        False, "Images are rectified: P of camera_info holds for them, not K with D."
    )
    baseline_m: float = param(
        0.0,
        "Distance between the cameras of a stereo pair, in metres; 0 takes that of the right camera_info.",
        ge=0.0,
        le=100.0,
    )
    tolerance_s: float = param(
        0.02,
        "How far the stamps of depth and right images may be from that of their image, in seconds.",
        ge=0.0,
        le=1.0,
        live=True,
    )
    wait_s: float = param(
        0.15,
        "How long a keyframe waits for what belongs to it, in seconds; then it goes on without.",
        ge=0.0,
        le=5.0,
        live=True,
    )
    base_from_camera: str = param(
        "",
        "How the camera's optical frame is mounted on the robot's base: `x y z qx qy qz qw` or `x y z roll "
        "pitch yaw`, in metres and radians; `tf` asks tf2; empty: not known, poses are those of the camera.",
    )
    base_frame: str = param(
        "base_link", "Frame of the robot's base in tf, where base_from_camera is tf."
    )


@dataclass(frozen=True)
class VerificationConfig(Section):
    """How two images are compared by geometry."""

    features: str = param(
        "orb",
        "Local features of keyframes: orb is fast, rootsift finds more where the light differs; none leaves "
        "candidates unverified.",
        choices=("none", "orb", "sift", "rootsift"),
    )
    max_features: int = param(
        2000, "How many local features of an image are kept.", ge=50, le=20000
    )
    thumbnail_px: int = param(
        320,
        "Longer side of a small JPEG that is kept of each keyframe, in pixels, to look at and to describe it "
        "with another model one day; 0 keeps none.",
        ge=0,
        le=4096,
    )
    max_depth_m: float = param(
        40.0, "Points further away than this, in metres, are not measured.", ge=0.1, le=10000.0
    )
    max_ratio: float = param(
        0.8,
        "A feature's nearest one in the other image has to be nearer than the second nearest by this factor.",
        ge=0.1,
        le=1.0,
        live=True,
    )
    max_error_px: float = param(
        3.0,
        "How far, in pixels, an inlier may be from where the pose puts it.",
        ge=0.1,
        le=100.0,
        live=True,
    )


@dataclass(frozen=True)
class OdometryConfig(Section):
    """How far odometry may be off, and what that says of loop closures."""

    drift: str = param(
        "parameters",
        "Where its uncertainty is from: the parameters below, or the covariance in its messages.",
        choices=("parameters", "message"),
        live=True,
    )
    drift_m_per_m: float = param(
        0.01, "Standard deviation of its drift, as a share of the way.", ge=0.0, le=1.0, live=True
    )
    drift_deg_per_m: float = param(
        0.01,
        "Standard deviation of the drift of its heading, in degrees per metre.",
        ge=0.0,
        le=90.0,
        live=True,
    )
    drift_rad_per_rad: float = param(
        0.02,
        "Standard deviation of the drift of its heading, as a share of what it turned.",
        ge=0.0,
        le=1.0,
        live=True,
    )
    noise_m: float = param(
        0.02, "Standard deviation of each of its positions, in metres.", ge=0.0, le=10.0, live=True
    )
    noise_deg: float = param(
        0.5,
        "Standard deviation of each of its orientations, in degrees.",
        ge=0.0,
        le=90.0,
        live=True,
    )
    is_level: str = param(
        "auto",
        "Whether z of its frame is up, and roll and pitch do not drift, as gravity is measured or the ground "
        "is flat; auto says no if odometry is of the camera's own optical frame.",
        choices=("auto", "yes", "no"),
        live=True,
    )


@dataclass(frozen=True)
class ClosureConfig(Section):
    """When two keyframes that were compared by geometry are reported as a loop closure."""

    min_inliers: int = param(
        20, "Least number of point matches that agree with the pose.", ge=4, le=10000, live=True
    )
    min_inlier_share: float = param(
        0.2, "Least share of the point matches that agree with it.", ge=0.0, le=1.0, live=True
    )
    min_share_back: float = param(
        0.3,
        "Least number of inliers one way, as a share of those the other way, where the depth of both images "
        "is known.",
        ge=0.0,
        le=1.0,
        live=True,
    )
    max_distance_m: float = param(
        15.0,
        "How far, in metres, two images of one place may be taken apart.",
        ge=0.01,
        le=10000.0,
        live=True,
    )
    max_rise_m: float = param(
        1.0,
        "How far above each other, in metres, two images of one place may be taken, by level odometry, as "
        "floors look alike. Asked where the closure's own pose is not in metres.",
        ge=0.01,
        le=10000.0,
        live=True,
    )
    max_uncertainty_m: float = param(
        0.2,
        "Largest standard deviation of a closure's position, in metres: one whose points are all far "
        "away, or few, tells little.",
        ge=0.001,
        le=1000.0,
        live=True,
    )
    max_odometry_deviation: float = param(
        4.0,
        "How far from odometry a closure may be, in standard deviations of both.",
        ge=0.1,
        le=1000.0,
        live=True,
    )
    max_tilt_deg: float = param(
        6.0,
        "How far a closure may be, in degrees, from what a level odometry says is upright.",
        ge=0.0,
        le=180.0,
        live=True,
    )
    ambiguous_share: float = param(
        0.5,
        "Another place with this share of a closure's inliers, or more, makes it ambiguous: it is held back.",
        ge=0.0,
        le=1.0,
        live=True,
    )
    min_agreeing: int = param(
        2,
        "With edges of so many other keyframes a closure has to agree, given odometry: until they have come, "
        "it waits, and is reported late. 0 reports each at once. Not asked for without odometry or scale.",
        ge=0,
        le=50,
        live=True,
    )
    every_keyframes: int = param(
        1,
        "One closure of a place for so many keyframes; 1 reports each.",
        ge=1,
        le=10000,
        live=True,
    )


@dataclass(frozen=True)
class LocalisationConfig(Section):
    """When it is said where in a map a robot is."""

    max_keyframes: int = param(
        10,
        "How many of the last keyframes are weighed together, as far as odometry connects them.",
        ge=1,
        le=100,
        live=True,
    )
    min_agreeing: int = param(
        2,
        "How many of them have to agree, where the robot has odometry; without, one image decides.",
        ge=1,
        le=100,
        live=True,
    )
    min_inliers: int = param(
        50,
        "Least number of point matches that agree with the pose, of all keyframes that agree together.",
        ge=4,
        le=10000,
        live=True,
    )
    kidnapped_keyframes: int = param(
        3,
        "How many keyframes in a row have to agree on another place than odometry leads to, for the robot to "
        "be reported as kidnapped.",
        ge=1,
        le=100,
        live=True,
    )
    initial_pose_at_start: bool = param(
        False,
        "Publish the first pose that is found on initial_pose too, once; with initial_pose remapped to "
        "/initialpose it tells AMCL where the robot is.",
    )


@dataclass(frozen=True)
class PoseGraphConfig(Section):
    """What is published of the corrected poses of keyframes."""

    map_frame: str = param("map", "Frame of corrected poses.")
    period_s: float = param(
        1.0,
        "Least time between two solutions, in seconds; one that takes longer is followed by a pause as long.",
        ge=0.0,
        le=3600.0,
        live=True,
    )
    publish_tf: bool = param(
        True, "Publish the transform from the map to odometry's frame on /tf; needs tf2_msgs."
    )


@dataclass(frozen=True)
class DiagnosticsConfig(Section):
    """How the nodes report on themselves."""

    period_s: float = param(1.0, "Seconds between two reports on /diagnostics.", ge=0.1, le=60.0)
    silence_s: float = param(
        5.0, "Warn when nothing arrived for so many seconds.", ge=0.5, le=3600.0, live=True
    )


@dataclass(frozen=True)
class Config:
    """The sections of the configuration; each component takes its own."""

    camera: CameraConfig = field(default_factory=CameraConfig)
    extractor: ExtractorConfig = field(default_factory=ExtractorConfig)
    keyframes: KeyframeConfig = field(default_factory=KeyframeConfig)
    database: DatabaseConfig = field(default_factory=DatabaseConfig)
    candidates: CandidateConfig = field(default_factory=CandidateConfig)
    sensors: SensorsConfig = field(default_factory=SensorsConfig)
    verification: VerificationConfig = field(default_factory=VerificationConfig)
    odometry: OdometryConfig = field(default_factory=OdometryConfig)
    closures: ClosureConfig = field(default_factory=ClosureConfig)
    localisation: LocalisationConfig = field(default_factory=LocalisationConfig)
    pose_graph: PoseGraphConfig = field(default_factory=PoseGraphConfig)
    diagnostics: DiagnosticsConfig = field(default_factory=DiagnosticsConfig)


def sections_of(kind: Any) -> dict[str, type[Section]]:
    """The sections of a configuration by name: of Config, or of another one made like it."""
    return {item.name: item.default_factory for item in dataclasses.fields(kind)}  # type: ignore[misc]


SECTIONS = sections_of(Config)


def with_model(config: Config, model: str | Path) -> Config:
    """The configuration with another model file."""
    return replace(config, extractor=replace(config.extractor, model=str(model)))


def parameter_names(kind: Any = Config) -> list[str]:
    """`section.name` of every value there is."""
    return [
        f"{section}.{name}"
        for section, cls in sections_of(kind).items()
        for name, _, _ in parameters(cls)
    ]

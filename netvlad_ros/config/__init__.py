# SPDX-License-Identifier: MIT
"""Every tunable value once, and the files that set them."""

from netvlad_ros.config.network import NetworkConfig
from netvlad_ros.config.parameter import (
    Param,
    Section,
    Value,
    checked,
    param,
    parameters,
    range_text,
)
from netvlad_ros.config.sections import (
    DEFAULT_CAMERA,
    SECTIONS,
    CameraConfig,
    CandidateConfig,
    ClosureConfig,
    Config,
    DatabaseConfig,
    DiagnosticsConfig,
    ExtractorConfig,
    KeyframeConfig,
    OdometryConfig,
    SensorsConfig,
    VerificationConfig,
    parameter_names,
    sections_of,
    with_model,
)

__all__ = [
    "DEFAULT_CAMERA",
    "SECTIONS",
    "CameraConfig",
    "CandidateConfig",
    "ClosureConfig",
    "Config",
    "DatabaseConfig",
    "DiagnosticsConfig",
    "ExtractorConfig",
    "KeyframeConfig",
    "NetworkConfig",
    "OdometryConfig",
    "Param",
    "Section",
    "SensorsConfig",
    "Value",
    "VerificationConfig",
    "checked",
    "param",
    "parameter_names",
    "parameters",
    "range_text",
    "sections_of",
    "with_model",
]

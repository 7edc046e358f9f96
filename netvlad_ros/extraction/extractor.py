# SPDX-License-Identifier: MIT
"""A model file in, global descriptors out."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from netvlad_ros.config import ExtractorConfig
from netvlad_ros.errors import DescriptorError, ImageError, ModelError
from netvlad_ros.extraction.preprocessing import network_input
from netvlad_ros.runtime.choice import open_chosen
from netvlad_ros.runtime.model import ModelDescription
from netvlad_ros.threads import limit_opencv

# From here on, every backbone has at least one local feature.
SAFE_SIDE_PX = 80


class NetVLADExtractor:
    """The Extractor of a model file of any runtime.

    dims:        length of a descriptor.
    fingerprint: which model, input size and truncation made a descriptor, such as 0fe1d8...@320x240; only
                 descriptors of equal fingerprints can be compared.
    calibration: what similarities mean; None if that was not measured, or for another size or length.
    description: what the model file says of itself.
    size_px:     (width, height) images are resized to; None keeps their own.
    choice:      which file runs, in which runtime, and why.
    """

    def __init__(self, model: str | Path = "", config: ExtractorConfig | None = None) -> None:
        """model: a file; empty takes the one that comes with this package.

        Raises ModelError if the file is no model or the device is not there.
        """
        self.config = config or ExtractorConfig()
        limit_opencv(self.config.threads)
        loaded, self.choice = open_chosen(model, self.config)
        self.description = loaded.description
        self.dims = self.config.descriptor_dims or self.description.descriptor_dims
        if self.dims > self.description.descriptor_dims:
            raise ModelError(
                f"extractor.descriptor_dims: expected at most {self.description.descriptor_dims}, the "
                f"dimensions of {self.choice.path}, got {self.dims}."
            )
        self.size_px = _input_size(self.config, self.description)
        self.fingerprint = self.description.fingerprint_at(self.size_px, self.dims)
        self.calibration = self.description.calibration_at(self.fingerprint)
        self._forward = loaded.forward

    def extract(self, image: np.ndarray) -> np.ndarray:
        """The descriptor of one image, float32 of shape (dims,) and unit length.

        image: uint8, RGB (H, W, 3) or grey (H, W). Raises ImageError if it is no picture of a place.
        """
        return self.extract_batch([image])[0]

    def extract_batch(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """The descriptors of several images, (len(images), dims); images of one size run at once."""
        how = self.description.interpolation
        inputs = [network_input(image, self.size_px, self.config, how) for image in images]
        if not inputs:
            return np.empty((0, self.dims), np.float32)
        if len({one.shape for one in inputs}) > 1:
            return np.concatenate([self._run(one[None]) for one in inputs])
        return self._run(np.stack(inputs))

    def warm_up(self) -> None:
        """Compiles the network, so that the first image is not slower than the others."""
        width, height = self.size_px or (640, 480)
        self._output(np.zeros((1, height, width, 3), np.uint8))

    def _run(self, batch: np.ndarray) -> np.ndarray:
        descriptors = self._output(batch)[:, : self.dims]
        lengths = np.linalg.norm(descriptors, axis=1, keepdims=True)
        if not np.all(lengths > 0.0):  # NaN is not above zero either
            raise DescriptorError(
                "the network gave a descriptor without a length (NaN or zero); its weights or its input "
                "normalisation must be damaged: import or train the model again."
            )
        return descriptors / lengths

    def _output(self, batch: np.ndarray) -> np.ndarray:
        try:
            return self._forward(batch)
        except (ValueError, TypeError, RuntimeError):  # such as: nothing left to convolve
            _refuse_small(*batch.shape[1:3])
            raise


def _refuse_small(height: int, width: int) -> None:
    if min(height, width) < SAFE_SIDE_PX:
        raise ImageError(
            f"an input of {width}x{height} pixels is too small for this network; resize to at least "
            f"{SAFE_SIDE_PX} a side (extractor.input_width_px, extractor.input_height_px)."
        ) from None


def _input_size(config: ExtractorConfig, description: ModelDescription) -> tuple[int, int] | None:
    width = config.input_width_px or description.input_width_px
    height = config.input_height_px or description.input_height_px
    if description.has_fixed_size:
        _refuse_other_size(config, width, height, description)
    if config.resize and bool(width) != bool(height):
        raise ModelError(
            "extractor: expected both input_width_px and input_height_px or none, as the model has no size "
            f"of its own; got {width} and {height}."
        )
    return (width, height) if config.resize and width else None


def _refuse_other_size(
    config: ExtractorConfig, width: int, height: int, description: ModelDescription
) -> None:
    only = (description.input_width_px, description.input_height_px)
    if (width, height) != only or not config.resize:
        wanted = f"{width}x{height}" if config.resize else "the images' own size (extractor.resize)"
        raise ModelError(
            f"extractor: the model was exported for {only[0]}x{only[1]} pixels only, got {wanted}; export it "
            "for that size, or leave the parameter out."
        )

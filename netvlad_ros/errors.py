# SPDX-License-Identifier: MIT
"""Every error that a user of this package can cause or has to act on."""


class NetVLADError(Exception):
    """What was wrong, what was expected and what to do next, in one sentence."""


class ConfigError(NetVLADError):
    """A value or a name in the configuration is not possible."""


class ImageError(NetVLADError):
    """An image can't be decoded, or is no picture of a place."""


class ModelError(NetVLADError):
    """A network can't be built or a model file can't be used."""


class WeightsError(NetVLADError):
    """A file of foreign weights can't be read or does not hold what it should."""


class DownloadError(NetVLADError):
    """Published weights can't be fetched, or are not the ones that were published."""


class DescriptorError(NetVLADError):
    """A descriptor has the wrong length, norm, or fingerprint."""


class CameraError(NetVLADError):
    """A camera's intrinsics, depth or right image can't be what they are said to be."""


class DatabaseError(NetVLADError):
    """A keyframe database can't be read or written."""


class GraphError(NetVLADError):
    """A pose graph can't be solved."""


class MessageError(NetVLADError):
    """A message says what can't be, such as a similarity of five."""


class EdgeError(NetVLADError):
    """A back-end can't take a loop closure.

    kind: the same in a few words, to be counted.
    """

    def __init__(self, kind: str, sentence: str) -> None:
        super().__init__(sentence)
        self.kind = kind


class BagError(NetVLADError):
    """A bag can't be read or holds nothing to work on."""


class GroundTruthError(NetVLADError):
    """A file of ground truth can't be read or does not hold what it should."""


class DatasetError(NetVLADError):
    """A set of places can't be read or does not hold what it should."""


class WorldError(NetVLADError):
    """A world can't be made, walked through or written."""


class TrainingError(NetVLADError):
    """A training run can't start, go on or be resumed."""

# SPDX-License-Identifier: MIT
"""PCA whitening of descriptors: fitted on the descriptors of images, or read from a file.

D is the length of a descriptor before whitening, d after it.
"""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from netvlad_ros.constants import WHITENING_REGULARISATION
from netvlad_ros.errors import WeightsError

# Directions that hold less than this share of the largest variance are the rounding of the network.
LEAST_VARIANCE = 1e-10
# Dimensions that are centred and multiplied at once, so that no copy of all descriptors is made.
BLOCK_DIMS = 4096
# Room for 32768 to 32768 dimensions, not for a file made to fill the memory.
MAX_BYTES = 4 << 30


@dataclass(frozen=True)
class Whitening:
    """y = x kernel + bias; the network then gives y unit length.

    kernel: (D, d) float32, principal directions, best first, each over the standard deviation along it.
    bias:   (d,) float32, minus what the kernel makes of the mean.
    """

    kernel: np.ndarray
    bias: np.ndarray

    @property
    def dims(self) -> int:
        """d."""
        return self.kernel.shape[1]

    def first(self, dims: int) -> "Whitening":
        """The same to fewer dimensions. Raises WeightsError if it has not that many."""
        if not 1 <= dims <= self.dims:
            raise WeightsError(
                f"dims: expected 1 to {self.dims}, which the whitening has, got {dims}."
            )
        return Whitening(self.kernel[:, :dims], self.bias[:dims])

    def apply(self, descriptors: np.ndarray) -> np.ndarray:
        """(N, D) -> (N, d), not yet of unit length."""
        return descriptors @ self.kernel + self.bias


def fit_whitening(descriptors: np.ndarray, dims: int) -> Whitening:
    """The whitening to the first principal directions of these descriptors, (N, D), with N above dims.

    Raises WeightsError if there are too few descriptors or they differ in fewer directions.
    Reference: Jegou and Chum, Negative evidences and co-occurences in image retrieval; regularised as in
    the NetVLAD authors' release.
    """
    count, available = descriptors.shape
    if not 1 <= dims <= available:
        raise WeightsError(
            f"dims: expected 1 to {available}, the length of the descriptors, got {dims}."
        )
    if count <= dims:
        raise WeightsError(
            f"whitening to {dims} dimensions: expected more than {dims} images, got {count}; add images or "
            "ask for fewer dimensions."
        )
    mean = descriptors.mean(axis=0, dtype=np.float64)
    variances, directions = _principal(descriptors, mean, dims)
    kernel = directions / np.sqrt(variances + WHITENING_REGULARISATION)
    return Whitening(kernel.astype(np.float32), (-mean @ kernel).astype(np.float32))


def fit_place_whitening(
    descriptors: np.ndarray, places: np.ndarray, dims: int, evenness: float = 1.0
) -> Whitening:
    """The whitening that makes images of one place alike: what changes among them is made small.

    descriptors: (N, D); places: (N,) integers, equal where images show the same place, each at least twice.
    evenness: so many times the mean spread within places is added in all directions; with few images for
        each dimension, directions in which nothing happened to change would else rule.
    The spread within places is brought to one in all directions, then the principal directions of all
    descriptors are taken. Raises WeightsError if there are too few images or they don't differ.
    Reference: Mikolajczyk and Matas, Improving descriptors for fast tree matching by optimal linear
    projection; used for whole images by Radenovic et al., Fine-tuning CNN image retrieval.
    """
    available = descriptors.shape[1]
    if not 1 <= dims <= available:
        raise WeightsError(
            f"dims: expected 1 to {available}, the length of the descriptors, got {dims}."
        )
    numbers, place, counts = np.unique(places, return_inverse=True, return_counts=True)
    freedom = len(descriptors) - len(numbers)
    if len(numbers) < 2 or counts.min() < 2:
        raise WeightsError(
            f"whitening from places: expected at least 2 places and 2 images of each, got {len(numbers)} and "
            f"{counts.min(initial=0)}."
        )
    mean = descriptors.mean(axis=0, dtype=np.float64)
    centres = np.zeros((len(numbers), available))
    np.add.at(centres, place, descriptors)
    within = _covariance(descriptors - (centres / counts[:, None])[place], np.zeros(available))
    within /= freedom
    within += np.eye(available) * (evenness * np.trace(within) / available)
    values, vectors = np.linalg.eigh(within)
    _refuse_flat(values[::-1])
    even = vectors / np.sqrt(values)
    total = even.T @ _covariance(descriptors, mean) @ even / (len(descriptors) - 1)
    values, vectors = np.linalg.eigh(total)
    kernel = even @ vectors[:, ::-1][:, :dims]
    kernel /= np.sqrt(values[::-1][:dims].mean() + WHITENING_REGULARISATION)
    return Whitening(kernel.astype(np.float32), (-mean @ kernel).astype(np.float32))


def read_whitening(path: str | Path) -> Whitening:
    """A whitening from an .npz or .csv file. Raises WeightsError.

    .npz: `mean` (D,), `components` (d, D) and, if they are still to be divided by, `variances` (d,).
    .csv: the mean in the first row, a component in each further one, as HKUST-Aerial-Robotics/D2SLAM has it.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: there is no such file of a whitening.")
    mean, components = _READERS.get(path.suffix.lower(), _refuse_kind)(path)
    if mean.ndim != 1 or components.shape[1:] != mean.shape or not 0 < len(components) <= mean.size:
        raise WeightsError(
            f"{path}: expected a mean of shape (D,) and components of shape (d, D), d at most D, got "
            f"{mean.shape} and {components.shape}."
        )
    if not (np.isfinite(mean).all() and np.isfinite(components).all()):
        raise WeightsError(f"{path}: holds NaN or infinite values; write the file again.")
    kernel = components.T.astype(np.float32)
    return Whitening(kernel, -(mean @ components.T).astype(np.float32))


def _principal(
    descriptors: np.ndarray, mean: np.ndarray, dims: int
) -> tuple[np.ndarray, np.ndarray]:
    """Variances (dims,) and directions (D, dims), largest first; of two products, the smaller is solved."""
    few = len(descriptors) <= descriptors.shape[1]
    products = _gram(descriptors, mean) if few else _covariance(descriptors, mean)
    values, vectors = np.linalg.eigh(products / (len(descriptors) - 1))
    values, vectors = values[::-1][:dims], vectors[:, ::-1][:, :dims]
    _refuse_flat(values)
    if few:  # from combinations of descriptors to directions of unit length
        vectors = _combine(descriptors, mean, vectors)
        vectors /= np.linalg.norm(vectors, axis=0)
    largest = vectors[np.abs(vectors).argmax(axis=0), np.arange(dims)]
    return values, vectors * np.sign(
        largest
    )  # the sign is free: with this one, it is always the same


def _blocks(mean: np.ndarray) -> list[slice]:
    return [slice(start, start + BLOCK_DIMS) for start in range(0, mean.size, BLOCK_DIMS)]


def _gram(descriptors: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """(N, N) dot products of the centred descriptors."""
    total = np.zeros((len(descriptors),) * 2)
    for block in _blocks(mean):
        centred = descriptors[:, block] - mean[block]
        total += centred @ centred.T
    return total


def _covariance(descriptors: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """(D, D) sums of products of the centred descriptors' dimensions."""
    centred = descriptors - mean
    return centred.T @ centred


def _combine(descriptors: np.ndarray, mean: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """(N, dims) weights of the centred descriptors -> their (D, dims) sums."""
    return np.concatenate(
        [(descriptors[:, block] - mean[block]).T @ vectors for block in _blocks(mean)]
    )


def _refuse_flat(variances: np.ndarray) -> None:
    usable = int((variances > LEAST_VARIANCE * variances[0]).sum()) if variances[0] > 0 else 0
    if usable < len(variances):
        raise WeightsError(
            f"whitening to {len(variances)} dimensions: expected images that differ in as many directions, "
            f"got {usable}; take images of more places or ask for fewer dimensions."
        )


def _read_npz(path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        _refuse_huge(path)
        with np.load(path, allow_pickle=False) as file:
            mean, components = (file[name].astype(np.float64) for name in ("mean", "components"))
            variances = file["variances"].astype(np.float64) if "variances" in file else None
    except WeightsError:
        raise
    except Exception as error:  # NumPy and zipfile have many kinds for one cause
        raise WeightsError(
            f"{path}: expected arrays of numbers named mean and components ({error}); numpy.savez writes "
            "such a file."
        ) from None
    if variances is None or components.ndim != 2:
        return mean, components
    if variances.shape != components.shape[:1] or not (variances > 0.0).all():
        raise WeightsError(
            f"{path}: expected {len(components)} positive variances, one a component, got {variances.shape}."
        )
    return mean, components / np.sqrt(variances + WHITENING_REGULARISATION)[:, None]


def _refuse_huge(path: Path) -> None:
    with zipfile.ZipFile(path) as file:
        size = sum(item.file_size for item in file.infolist())
    if size > MAX_BYTES:
        raise WeightsError(f"{path}: expected at most {MAX_BYTES} bytes, got {size}; what is it?")


def _read_csv(path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        rows = np.loadtxt(path, delimiter=",", ndmin=2)
    except (OSError, ValueError) as error:
        raise WeightsError(
            f"{path}: expected rows of equally many numbers with commas between them ({error})."
        ) from None
    if len(rows) < 2:
        raise WeightsError(
            f"{path}: expected a mean and at least one component, got {len(rows)} rows."
        )
    return rows[0], rows[1:]


def _refuse_kind(path: Path) -> tuple[np.ndarray, np.ndarray]:
    raise WeightsError(
        f"{path}: expected a whitening in an .npz or .csv file, got {path.suffix!r}."
    )


_READERS = {".npz": _read_npz, ".csv": _read_csv}

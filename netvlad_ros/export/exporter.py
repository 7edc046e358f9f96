# SPDX-License-Identifier: MIT
"""Writes a network for another runtime, and keeps the file only if its descriptors are those of Keras."""

import contextlib
import hashlib
import importlib
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from netvlad_ros.errors import ModelError
from netvlad_ros.export.formats import BARS, Format, Request, refuse_precision
from netvlad_ros.model.forward import Forward, compile_forward
from netvlad_ros.model.network import NetVLADNetwork
from netvlad_ros.quiet import logging_undisturbed
from netvlad_ros.runtime.keras_model import describe
from netvlad_ros.runtime.model import ModelDescription
from netvlad_ros.runtime.runtimes import open_model, runtime_of

# Files whose similarities differ by less from those of the original share its databases: no threshold is
# known more precisely.
INTERCHANGEABLE_SHIFT = 0.01
# A calibration stays true where similarities among a file's own descriptors are others by no more than this:
# measured with other worlds, a threshold of the compact model comes out at 0.02 less or more.
CALIBRATED_SHIFT = 0.01
MADE_UP_IMAGES = 8


@dataclass(frozen=True)
class Agreement:
    """How the descriptors of two models compare on the same images.

    cosines:          (images,) similarity of both descriptors of an image.
    similarity_shift: by how much a similarity changes at most when one of its two images went through the
                      other model, as it does when a database is shared.
    own_shift:        by how much the similarity of two images changes when both did; root mean square.
    """

    cosines: np.ndarray
    similarity_shift: float
    own_shift: float


@dataclass(frozen=True)
class Export:
    """A file that was written and accepted."""

    path: Path
    description: ModelDescription
    agreement: Agreement
    is_interchangeable: bool


def export_network(
    network: NetVLADNetwork,
    path: Path,
    format: Format,
    precision: str,
    size_px: tuple[int, int],
    images: np.ndarray | None = None,
) -> Export:
    """Writes a network to path.

    size_px: (width, height), the only input size of the file.
    images:  (N, height, width, 3) uint8 RGB to compare both on; int8 is calibrated on every other one.
             Without any, made-up ones serve, for other precisions than int8; then only fp32 shares
             databases with the original.
    Raises ModelError, and leaves path as it was, if the format does not have the precision, or if the mean
    cosine is below BARS.
    """
    refuse_precision(format, precision)
    _refuse_other_folder(path)
    calibration, checked = _divided(images, precision, size_px)
    request = Request(size_px, precision, calibration)
    with _draft(path) as draft:
        with logging_undisturbed():
            format.write(network, draft, request)
        made = describe_export(network, request)
        agreement = compare(
            compile_forward(network, "auto"), open_model(draft, description=made).forward, checked
        )
        _refuse_different(path, precision, agreement)
        shares = _shares_databases(precision, agreement, images)
        made = _measured(made, agreement, "" if shares else _digest(draft))
        _attach(draft, made)
        return Export(_moved(draft, path), made, agreement, shares)


def _refuse_other_folder(path: Path) -> None:
    """An older export is replaced; a folder of anything else is not."""
    if path.is_dir() and not (path / "saved_model.pb").is_file():
        raise ModelError(
            f"{path}: expected a new name or an older SavedModel to replace, got another folder."
        )


def describe_export(network: NetVLADNetwork, request: Request) -> ModelDescription:
    """What the network says of itself, for one size in one precision."""
    return replace(
        describe(network),
        input_width_px=request.size_px[0],
        input_height_px=request.size_px[1],
        has_fixed_size=True,
        precision=request.precision,
    )


def compare(original: Forward, other: Forward, images: np.ndarray) -> Agreement:
    """Both on the same images, (N, height, width, 3) uint8 RGB, one at a time."""
    ours = np.concatenate([original(image[None]) for image in images])
    theirs = np.concatenate([other(image[None]) for image in images])
    pairs = np.triu_indices(len(images), min(1, len(images) - 1))  # of a single image, with itself
    own_shifts = (theirs @ theirs.T - ours @ ours.T)[pairs]
    return Agreement(
        cosines=np.einsum("nd,nd->n", ours, theirs),
        similarity_shift=float(np.abs(theirs @ ours.T - ours @ ours.T).max()),
        own_shift=float(np.sqrt(np.mean(own_shifts**2))),
    )


def made_up_images(size_px: tuple[int, int]) -> np.ndarray:
    """Coloured noise at several scales, always the same: (N, height, width, 3) uint8."""
    rng = np.random.default_rng(0)
    return np.stack([_noise(rng, size_px, 4 << (n % 5)) for n in range(MADE_UP_IMAGES)])


def _noise(rng: np.random.Generator, size_px: tuple[int, int], blobs: int) -> np.ndarray:
    coarse = rng.integers(0, 256, (blobs, blobs, 3), np.uint8)
    return cv2.resize(coarse, size_px, interpolation=cv2.INTER_CUBIC)


def _divided(
    images: np.ndarray | None, precision: str, size_px: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Images to calibrate on and others to check with."""
    if precision != "int8":
        checked = made_up_images(size_px) if images is None else images
        return checked[:0], checked
    if images is None or len(images) < 2:
        raise ModelError(
            "--precision int8: expected images of places to find the ranges of values on, a hundred or more "
            "(--images FOLDER); got fewer than two."
        )
    return images[::2], images[1::2]


def _refuse_different(path: Path, precision: str, agreement: Agreement) -> None:
    mean = float(agreement.cosines.mean())
    if not mean >= BARS[precision]:  # NaN is not
        raise ModelError(
            f"{path}: not written, as {precision} changes the descriptors too much: mean cosine {mean:.6f} "
            f"over {len(agreement.cosines)} images, at least {BARS[precision]} is expected; take another "
            "precision or format, or calibrate on more images."
        )


def _shares_databases(precision: str, agreement: Agreement, images: np.ndarray | None) -> bool:
    """Whether its descriptors may be compared with those of the original; made-up images do not prove it."""
    is_proven = images is not None or precision == "fp32"
    return is_proven and agreement.similarity_shift <= INTERCHANGEABLE_SHIFT


def _measured(made: ModelDescription, agreement: Agreement, own: str) -> ModelDescription:
    """own: what sets its fingerprint apart from the original's, if it does not share databases with it.

    The calibration is kept where its similarities are hardly others, whether or not it shares databases.
    """
    fingerprint = f"{made.fingerprint}-{made.precision}-{own}" if own else made.fingerprint
    calibration = made.calibration if agreement.own_shift <= CALIBRATED_SHIFT else None
    return replace(
        made,
        cosine=float(agreement.cosines.mean()),
        fingerprint=fingerprint,
        calibration=calibration and calibration.of_same_descriptors(made.fingerprint, fingerprint),
    )


def _digest(draft: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(each for each in draft.parent.rglob("*") if each.is_file()):
        with file.open("rb") as content:
            digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()[:8]


def _attach(draft: Path, description: ModelDescription) -> None:
    module = importlib.import_module(f"netvlad_ros.runtime.{runtime_of(draft)}_model")
    module.attach_description(draft, description)


@contextlib.contextmanager
def _draft(path: Path) -> Iterator[Path]:
    """A path of the same name in a new folder beside, which vanishes with all that was not moved."""
    try:
        folder = tempfile.mkdtemp(prefix=".export-", dir=path.parent)
    except OSError as error:
        raise ModelError(f"{path}: can't write there ({error.strerror}).") from None
    try:
        yield Path(folder) / path.name
    except OSError as error:
        raise ModelError(f"{path}: can't write the model ({error.strerror or error}).") from None
    finally:
        shutil.rmtree(folder)


def _moved(draft: Path, path: Path) -> Path:
    """Moves what was written to its place: the weights first, then the file that needs them."""
    if path.is_dir():
        shutil.rmtree(path)
    for file in sorted(draft.parent.iterdir(), key=lambda file: file.suffix):
        file.replace(path.with_name(file.name))
    return path

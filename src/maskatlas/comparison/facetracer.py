"""FaceTracer (Kumar, Belhumeur and Nayar 2008), in the version behind the published 81.

The original chooses, by boosting, among local support vector machines for each region and kind of
pixel feature. The column that tables show, 81 on average, is the simpler version of Liu et al.
(2015): histograms of oriented gradients and of colours in functional regions of the face, then a
linear support vector machine for each attribute. That is what stands here, with HOG by scikit-image
and the machines by scikit-learn.

Choices and departures: without landmarks the regions are fixed in the aligned frame, whose eyes lie
near (69.5, 111) and (107.5, 111) and whose mouth near (88.5, 153.5) of 178 x 218 pixels, seen
through the centre square; colours are histograms of RGB and HSV; at most 20 000 images are learned
from. It has nothing to go on with when stopped, and begins anew. Half of ``--minutes`` is for the
features of images, half for the machines: a machine on an eighth of the images is timed, and where
all of them would take longer, they learn from fewer images.
"""

import importlib.util
import math
import time
from types import MappingProxyType

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from maskatlas.cache import PackedImages
from maskatlas.comparison.linear_svm import LinearSVMs, fit_svms
from maskatlas.comparison.system import Fitted, Job
from maskatlas.data import AttributeDataset, epoch_order
from maskatlas.images import Preprocessing
from maskatlas.tensorfile import load_tensors, save_tensors
from maskatlas.training_data import open_data

REGIONS = MappingProxyType(
    {
        "whole": (0.0, 0.0, 1.0, 1.0),
        "face": (0.2, 0.2, 0.8, 0.95),
        "hair": (0.1, 0.0, 0.9, 0.35),
        "forehead": (0.28, 0.25, 0.72, 0.45),
        "eyes": (0.25, 0.4, 0.75, 0.6),
        "left eye": (0.27, 0.42, 0.5, 0.6),
        "right eye": (0.5, 0.42, 0.73, 0.6),
        "nose": (0.38, 0.5, 0.62, 0.7),
        "mouth": (0.33, 0.66, 0.67, 0.84),
        "chin": (0.3, 0.8, 0.7, 1.0),
    }
)
"""Left, upper, right, lower of each region, in sides of the centre square."""

SIDE = 24
"""Pixels of a region's side, after resizing."""
CELL, ORIENTATIONS = 8, 8
"""Pixels of a cell of HOG, and bins of directions."""
BINS = 8
"""Of each colour's histogram."""
MOST_IMAGES = 20_000

_BATCH = 64


def region_features(image: UInt8[np.ndarray, "size size 3"]) -> Float[np.ndarray, " feature"]:
    """Return HOG and histograms of RGB and HSV of each region, one after another."""
    from skimage.feature import hog

    picture = Image.fromarray(image)
    size = picture.size[0]
    found = []
    for box in REGIONS.values():
        left, upper, right, lower = (size * place for place in box)
        region = picture.resize(
            (SIDE, SIDE), Image.Resampling.BILINEAR, box=(left, upper, right, lower)
        )
        gradients = hog(
            np.asarray(region.convert("L"), np.float64) / 255,
            orientations=ORIENTATIONS,
            pixels_per_cell=(CELL, CELL),
            cells_per_block=(2, 2),
        )
        found += [gradients, *(colour_histogram(region.convert(kind)) for kind in ("RGB", "HSV"))]
    return np.concatenate(found)


def colour_histogram(region: Image.Image) -> Float[np.ndarray, " bin"]:
    """Return the share of pixels in each bin, colour by colour."""
    pixels = np.asarray(region).reshape(-1, 3) // (256 // BINS)
    counts = [np.bincount(colour, minlength=BINS) for colour in pixels.T]
    return np.concatenate(counts) / len(pixels)


class FaceTracer:
    """The system, for :mod:`maskatlas.comparison`."""

    name = "facetracer"
    title = "FaceTracer, HOG and colours in regions, SVM"

    def obstacle(self, data: AttributeDataset) -> str | None:  # noqa: ARG002
        """Say what is not installed."""
        if importlib.util.find_spec("skimage") is None:
            return "it needs scikit-image: `pip install maskatlas[baselines]`"
        return None

    def fit(self, job: Job) -> Fitted:
        """Compute the features of the training images and fit a machine for each attribute."""
        path = job.folder / "model.safetensors"
        if not path.exists():
            machines, count = _learned(job)
            tensors = {name: torch.from_numpy(array) for name, array in _named(machines).items()}
            save_tensors(path, tensors, {"images": str(count)})
        tensors, metadata = load_tensors(path)
        machines = LinearSVMs(tensors["weight"].numpy(), tensors["bias"].numpy())

        def score(images: PackedImages) -> Tensor:
            return torch.from_numpy(machines.scores(_features(images))).float()

        learned = machines.weight.size + machines.bias.size
        return Fitted(score, parameters=learned, note=f"{metadata['images']} images")


def _named(machines: LinearSVMs) -> dict[str, np.ndarray]:
    return machines._asdict()


def _learned(job: Job) -> tuple[LinearSVMs, int]:
    """Return the machines, and how many images they learned from."""
    config = job.config
    data = open_data(config).training
    images = PackedImages(data, Preprocessing(config.model.image_size))
    order = epoch_order(len(images), config.seed, 0)[:MOST_IMAGES]
    half = None if job.minutes is None else 30 * job.minutes
    features = _features(images, order, half)
    labels = data.labels[order[: len(features)]].numpy().astype(np.float64)
    if half is not None:
        fitting = _fitting(features, labels, half)
        features, labels = features[:fitting], labels[:fitting]
    return fit_svms(features, labels), len(features)


def _fitting(
    features: Float[np.ndarray, "image feature"],
    labels: Float[np.ndarray, "image attribute"],
    seconds: float,
) -> int:
    """Return of how many images all machines learn in so many seconds, in proportion to one."""
    some = math.ceil(len(features) / 8)
    started = time.monotonic()
    fit_svms(features[:some], labels[:some, :1])
    all_of_some = (time.monotonic() - started) * labels.shape[1]
    return max(_BATCH, min(len(features), int(some * seconds / max(all_of_some, 1e-9))))


def _features(
    images: PackedImages, order: Tensor | None = None, seconds: float | None = None
) -> Float[np.ndarray, "image feature"]:
    """Return the features of images, of as many as time allows, but of one batch at least."""
    order = torch.arange(len(images)) if order is None else order
    started, found = time.monotonic(), []
    for part in order.split(_BATCH):
        pixels = images.batch(part).images.permute(0, 2, 3, 1).numpy()
        found += [region_features(image) for image in pixels]
        if seconds is not None and time.monotonic() - started > seconds:
            break
    return np.stack(found)

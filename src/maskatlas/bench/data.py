"""Loading of images in a random order: from the cache, and decoded by Pillow in a DataLoader.

Both hand over batches of float32 images, RGB 0 to 1, and labels. The files are JPEGs of rendered
faces. Workers live from one epoch to the next, so that starting them is not counted.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from maskatlas.bench.measuring import wall_clock
from maskatlas.bench.results import Case, Form, compare, measure_once
from maskatlas.bench.settings import Data
from maskatlas.cache import PackedImages
from maskatlas.config import FacesConfig
from maskatlas.data import AttributeDataset, epoch_order
from maskatlas.images import Preprocessing
from maskatlas.sources import open_dataset

_CPU = torch.device("cpu")  # where images are loaded to, whatever computes on them


class Decoded(Dataset[tuple[Tensor, Tensor]]):
    """Image files as one would write it: opened, cut, resized, made a tensor."""

    def __init__(
        self, files: Sequence[Path], labels: Float[Tensor, "image attribute"], size: int
    ) -> None:
        self.files = files
        self.labels = labels
        self.size = size

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Float[Tensor, "3 size size"], Tensor]:
        """One image, RGB 0 to 1, and its labels."""
        with Image.open(self.files[index]) as opened:
            image = opened.convert("RGB")
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        square = image.crop((left, top, left + side, top + side))
        resized = square.resize((self.size, self.size), Image.Resampling.BICUBIC)
        pixels = torch.from_numpy(np.array(resized)).permute(2, 0, 1)
        return pixels.float() / 255, self.labels[index]


def cases(settings: Data) -> Iterator[Case]:
    """Measure how long the cache takes to fill, then epochs from it and from files."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        data = open_dataset(write_files(settings, root / "data"))
        facts = {
            "images": len(data),
            "side": settings.side,
            "size": settings.size,
            "batch": settings.batch,
        }
        preprocessing = Preprocessing(settings.size)

        def fill() -> PackedImages:
            return PackedImages(data, preprocessing, directory=root / "cache")

        what = f"{len(data)} JPEGs of {settings.side} x {settings.side}, to {settings.size} pixels"
        yield measure_once(
            f"{what}: the first time, which fills the cache",
            facts,
            [Form("fill", fill, images=len(data))],
            device=_CPU,
            clock=wall_clock(_CPU),
        )
        loaders = {
            workers: _loader(data, root / "data", settings, workers) for workers in settings.workers
        }
        yield compare(
            f"{what}: an epoch in batches of {settings.batch}",
            facts,
            [
                Form("cache", cached_epochs(fill(), settings), note="PackedImages"),
                *(
                    Form(f"Pillow, {workers} workers", _epoch(loader), baseline=True)
                    for workers, loader in loaders.items()
                ),
            ],
            images=len(data),
            rounds=settings.repeats,
            device=_CPU,
            clock=wall_clock(_CPU),
        )


def write_files(settings: Data, folder: Path) -> Path:
    """Write rendered faces as JPEGs and a table of their labels; return the folder."""
    config = FacesConfig(count=settings.faces, size=settings.side, seed=settings.seed)
    faces = open_dataset("faces", faces=config)
    (folder / "images").mkdir(parents=True)
    lines = [",".join(("image", *faces.attributes))]
    for number in range(settings.limit):
        face = number % len(faces)
        path = folder / "images" / f"{number:06d}.jpg"
        if number == face:
            faces.read(face).save(path, quality=92)
        else:
            shutil.copyfile(folder / "images" / f"{face:06d}.jpg", path)
        labels = (str(int(label)) for label in faces.labels[face].tolist())
        lines.append(",".join((path.name, *labels)))
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


def cached_epochs(images: PackedImages, settings: Data) -> Callable[[], None]:
    """Return what gathers one epoch after another, each in its own order."""
    epochs = iter(range(2**62))

    def call() -> None:
        order = epoch_order(len(images), settings.seed, next(epochs))
        for part in order.split(settings.batch):
            batch = images.batch(part)
            batch.images.float().div_(255)

    return call


def _loader(
    data: AttributeDataset, folder: Path, settings: Data, workers: int
) -> DataLoader[tuple[Tensor, Tensor]]:
    files = [folder / "images" / name for name in data.names]
    return DataLoader(
        Decoded(files, data.labels, settings.size),
        settings.batch,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        generator=torch.Generator().manual_seed(settings.seed),
    )


def _epoch(loader: DataLoader[tuple[Tensor, Tensor]]) -> Callable[[], None]:
    def call() -> None:
        for _ in loader:
            pass

    return call

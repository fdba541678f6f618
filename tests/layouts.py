"""Small datasets in the layouts that are read, with random pictures and labels."""

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

ATTRIBUTES = ("Smiling", "Male", "Wearing_Hat", "Eyeglasses")
SPLITS = ("train", "val", "test")


def picture(seed: int, width: int = 18, height: int = 22) -> Image.Image:
    """A smooth random picture, so that JPEG changes little of it."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@dataclass
class Truth:
    """What a layout was written from."""

    attributes: tuple[str, ...]
    names: list[str]
    labels: np.ndarray
    splits: list[str]
    identities: list[int]
    files: dict[str, bytes]


def truth(count: int = 12, attributes: tuple[str, ...] = ATTRIBUTES, seed: int = 0) -> Truth:
    rng = np.random.default_rng(seed)
    names = [f"{number:06d}.jpg" for number in range(1, count + 1)]
    return Truth(
        attributes=attributes,
        names=names,
        labels=rng.integers(0, 2, (count, len(attributes))),
        splits=[SPLITS[place * 3 // count] for place in range(count)],
        identities=rng.integers(1, 5, count).tolist(),
        files={name: encoded(picture(seed * 1000 + place)) for place, name in enumerate(names)},
    )


def attribute_text(known: Truth, end: str = "\n", absent: str = "-1") -> str:
    lines = [str(len(known.names)), " ".join(known.attributes)]
    for name, row in zip(known.names, known.labels, strict=True):
        lines.append(f"{name} " + " ".join(f"{'1' if value else absent:>2}" for value in row))
    return end.join(lines) + end


def partition_text(known: Truth) -> str:
    pairs = zip(known.names, known.splits, strict=True)
    return "".join(f"{name} {SPLITS.index(split)}\n" for name, split in pairs)


def identity_text(known: Truth) -> str:
    pairs = zip(known.names, known.identities, strict=True)
    return "".join(f"{name} {identity}\n" for name, identity in pairs)


def write_images(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)


def write_archive(path: Path, files: dict[str, bytes], packed: int = zipfile.ZIP_STORED) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", packed) as archive:
        for name, data in files.items():
            archive.writestr(f"img_align_celeba/{name}", data)


def write_celeba(
    root: Path, known: Truth, *, archive: bool = True, published: bool = False
) -> Path:
    """CelebA flat, as torchvision lays it out, or in the folders it is published in."""
    anno, evaluation, images = (
        root / name if published else root for name in ("Anno", "Eval", "Img")
    )
    for folder in (anno, evaluation, images):
        folder.mkdir(parents=True, exist_ok=True)
    (anno / "list_attr_celeba.txt").write_text(attribute_text(known))
    (anno / "identity_CelebA.txt").write_text(identity_text(known))
    (evaluation / "list_eval_partition.txt").write_text(partition_text(known))
    if archive:
        write_archive(images / "img_align_celeba.zip", known.files)
    else:
        write_images(images / "img_align_celeba", known.files)
    return root


def write_table(root: Path, known: Truth, *, folder: str = "images") -> Path:
    """One's own table: split, identity, and a column for each attribute."""
    lines = [",".join(("image", "split", "identity", *known.attributes))]
    for row, name in enumerate(known.names):
        labels = map(str, known.labels[row])
        lines.append(",".join((name, known.splits[row], str(known.identities[row]), *labels)))
    root.mkdir(parents=True, exist_ok=True)
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    write_images(root / folder, known.files)
    return root

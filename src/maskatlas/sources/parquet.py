"""CelebA as Parquet files that hold the images too, as Hugging Face distributes it."""

import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt8

from maskatlas.data import AttributeDataset, EncodedImages
from maskatlas.errors import DataError, ImageError
from maskatlas.images import describe_content
from maskatlas.sources.label_tables import (
    ABSENT,
    BAD,
    MINUS_ONE,
    PRESENT,
    LabelTable,
    Problems,
    as_labels,
)
from maskatlas.sources.listing import Listing, check_ignored, enumerate_names, split_of

_IMAGE = "image"
_PACKED_LABELS = "attr"
_IDENTITIES = ("celeb_id", "identity")
_GROUPS_KEPT = 2  # row groups of images held in memory

_NAMES = """
    5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose
    Black_Hair Blond_Hair Blurry Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee
    Gray_Hair Heavy_Makeup High_Cheekbones Male Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard
    Oval_Face Pale_Skin Pointy_Nose Receding_Hairline Rosy_Cheeks Sideburns Smiling Straight_Hair
    Wavy_Hair Wearing_Earrings Wearing_Hat Wearing_Lipstick Wearing_Necklace Wearing_Necktie Young
"""

CELEBA_ATTRIBUTES = tuple(_NAMES.split())
"""The attributes of CelebA in the order of its table, for files that leave their names out."""


def import_pyarrow(path: Path) -> tuple[ModuleType, ModuleType]:
    """``pyarrow`` and ``pyarrow.parquet``; raises DataError where they are not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise DataError(
            f"{path}: reading Parquet needs pyarrow: pip install 'maskatlas[parquet]'."
        ) from error
    return pyarrow, pyarrow.parquet


def find_parquet(root: Path) -> list[Path]:
    """The Parquet files with images in a folder, or in one folder of it; empty without any.

    Raises:
        DataError: Several folders hold some, or a file is damaged.
    """
    folders = {path.parent for path in (*root.glob("*.parquet"), *root.glob("*/*.parquet"))}
    if not folders:
        return []
    first = {folder: min(folder.glob("*.parquet")) for folder in folders}
    holding = sorted(folder for folder, path in first.items() if _holds_images(path))
    if len(holding) > 1:
        names = enumerate_names([folder.name for folder in holding])
        raise DataError(f"{root}: several folders hold images in Parquet: {names}. Choose one.")
    return sorted(holding[0].glob("*.parquet")) if holding else []


def _holds_images(path: Path) -> bool:
    pyarrow, _ = import_pyarrow(path)
    schema = _open(path).schema_arrow
    return _IMAGE in schema.names and pyarrow.types.is_struct(schema.field(_IMAGE).type)


def _open(path: Path) -> Any:
    pyarrow, parquet = import_pyarrow(path)
    try:
        return parquet.ParquetFile(path)
    except (pyarrow.ArrowException, OSError) as error:
        with path.open("rb") as file:
            found = describe_content(file.read(512))
        raise DataError(
            f"{path}: expected a Parquet file, found {found} of {path.stat().st_size} bytes "
            f"({error}). The download was cut short or refused: fetch it again."
        ) from error


def open_parquet(paths: Sequence[Path], ignore: Sequence[str] = ()) -> AttributeDataset:
    """The images, labels and identities in these files; the split is in the name of each.

    Raises:
        DataError: A file is damaged, disagrees with the others, or has no known split.
    """
    shards = [_read_shard(path, ignore) for path in paths]
    for shard in shards:
        if shard.attributes != shards[0].attributes:
            raise DataError(
                f"{shard.path}: has other attributes than {shards[0].path}. Keep files of one "
                "dataset in a folder."
            )
    names = [name for shard in shards for name in shard.names]
    if len(set(names)) != len(names):  # some leave the file names out, or repeat them
        names = [f"{shard.path.stem}-{row:06d}" for shard in shards for row in range(shard.rows)]
    table = LabelTable(
        attributes=shards[0].attributes,
        names=tuple(names),
        labels=as_labels(np.concatenate([shard.codes for shard in shards])),
    )
    known = [shard.identities for shard in shards if shard.identities is not None]
    identities = np.concatenate(known) if len(known) == len(shards) else None
    splits = tuple(shard.split for shard in shards for _ in range(shard.rows))
    others = shards[0].others
    notes = (f"Columns that are no attributes: {', '.join(others)}.",) if others else ()
    listing = Listing(table, splits, identities, notes)
    return listing.dataset(
        "parquet", paths[0].parent, range(len(names)), ParquetImages(paths, names)
    )


@dataclass(frozen=True, eq=False)
class _Shard:
    """All but the images of one file."""

    path: Path
    split: str
    attributes: tuple[str, ...]
    names: list[str]
    codes: UInt8[np.ndarray, "image attribute"]
    identities: Int64[np.ndarray, " image"] | None
    others: tuple[str, ...]

    @property
    def rows(self) -> int:
        return len(self.names)


def _read_shard(path: Path, ignore: Sequence[str]) -> _Shard:
    split = split_of(path.name.split("-")[0].split(".")[0])
    if split is None:
        raise DataError(
            f"{path}: expected a file name that begins with its split, such as "
            "train-00000-of-00001.parquet."
        )
    file = _open(path)
    check_ignored(ignore, [*file.schema_arrow.names, *CELEBA_ATTRIBUTES], path)
    attributes = _attribute_columns(file.schema_arrow, ignore)
    identity = next((name for name in _IDENTITIES if name in file.schema_arrow.names), None)
    packed = _PACKED_LABELS in attributes
    read = [*attributes, f"{_IMAGE}.path"] + ([] if identity is None else [identity])
    table = file.read(columns=read)
    paths = table.column(_IMAGE).combine_chunks().field("path").to_pylist()
    problems = Problems(path, unit="row")
    codes = _packed_codes(problems, table) if packed else _codes(problems, table, attributes)
    names = CELEBA_ATTRIBUTES if packed else attributes
    problems.check_mixture(1, names, codes)
    problems.raise_any()
    kept = [column for column, name in enumerate(names) if name not in ignore]
    apart = {*attributes, _IMAGE, identity}
    return _Shard(
        path=path,
        split=split,
        attributes=tuple(names[column] for column in kept),
        names=[os.path.basename(name or "") for name in paths],
        codes=codes[:, kept],
        identities=None if identity is None else _identities(table.column(identity)),
        others=tuple(name for name in file.schema_arrow.names if name not in apart),
    )


def _attribute_columns(schema: Any, ignore: Sequence[str]) -> list[str]:
    """The columns of labels: a list of all, the attributes of CelebA, or what holds integers."""
    import pyarrow

    if _PACKED_LABELS in schema.names:
        return [_PACKED_LABELS]
    types = pyarrow.types
    whole = [
        field.name
        for field in schema
        if types.is_boolean(field.type) or types.is_integer(field.type)
    ]
    if set(CELEBA_ATTRIBUTES) <= set(whole):
        whole = [name for name in whole if name in CELEBA_ATTRIBUTES]
    return [name for name in whole if name not in (*_IDENTITIES, *ignore)]


def _codes(
    problems: Problems, table: Any, attributes: Sequence[str]
) -> UInt8[np.ndarray, "image attribute"]:
    codes = np.empty((table.num_rows, len(attributes)), np.uint8)
    for column, name in enumerate(attributes):
        values = table.column(name).cast("int64").fill_null(-2).to_numpy()
        codes[:, column] = _code_of(values)
        for row in np.flatnonzero(codes[:, column] == BAD).tolist():
            problems.add(row + 1, f"{name}: expected -1, 0 or 1, found {_shown(values[row])}")
    return codes


def _packed_codes(problems: Problems, table: Any) -> UInt8[np.ndarray, "image attribute"]:
    lists = table.column(_PACKED_LABELS).to_pylist()
    width = len(CELEBA_ATTRIBUTES)
    values = np.full((len(lists), width), -2, np.int64)
    for row, found in enumerate(lists):
        if found is None or len(found) != width:
            count = 0 if found is None else len(found)
            problems.add(row + 1, f"{_PACKED_LABELS}: expected {width} values, found {count}")
            values[row] = 0
        else:
            values[row] = [-2 if value is None else value for value in found]
    codes = _code_of(values)
    for row, column in np.argwhere(codes == BAD).tolist():
        name = CELEBA_ATTRIBUTES[column]
        found = _shown(values[row, column])
        problems.add(row + 1, f"{name}: expected -1, 0 or 1, found {found}")
    return codes


def _shown(value: np.int64) -> str:
    return "nothing" if value == -2 else str(value)


def _code_of(values: Int64[np.ndarray, "..."]) -> UInt8[np.ndarray, "..."]:
    codes = np.full(values.shape, BAD, np.uint8)
    for value, code in ((1, PRESENT), (0, ABSENT), (-1, MINUS_ONE)):
        codes[values == value] = code
    return codes


def _identities(column: Any) -> Int64[np.ndarray, " image"]:
    identities: Int64[np.ndarray, " image"] = column.cast("int64").fill_null(-1).to_numpy()
    return identities.copy()


class ParquetImages(EncodedImages):
    """Images in Parquet files; the row groups read last are kept, so neighbours cost nothing."""

    def __init__(self, paths: Sequence[Path], names: Sequence[str]) -> None:
        self.paths = tuple(paths)
        self.names = tuple(names)
        groups: list[tuple[int, int]] = []
        counts: list[int] = []
        for number, path in enumerate(self.paths):
            metadata = _open(path).metadata
            groups += [(number, group) for group in range(metadata.num_row_groups)]
            counts += [metadata.row_group(g).num_rows for g in range(metadata.num_row_groups)]
        self._groups = tuple(groups)
        self._ends = np.cumsum(counts)
        self._kept: OrderedDict[int, list[bytes | None]] = OrderedDict()
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_kept": OrderedDict(), "_lock": None}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()

    def name(self, index: int) -> str:
        """The file and the row, and the image's own name."""
        path, _, row = self._place(index)
        return f"{path}: {self.names[index]} (row {row + 1} of its row group)"

    def key(self, index: int) -> bytes:
        """The file, its size and times, and the row."""
        path, group, row = self._place(index)
        state = os.stat(path)
        known = (str(path), state.st_size, state.st_mtime_ns, state.st_ctime_ns, group, row)
        return repr(known).encode("utf-8", "surrogateescape")

    def content(self, index: int) -> bytes:
        """The encoded bytes of one image; raises ImageError."""
        group = int(np.searchsorted(self._ends, index, side="right"))
        _, _, row = self._place(index)
        with self._lock:
            if group not in self._kept:
                self._kept[group] = self._read(group)
                if len(self._kept) > _GROUPS_KEPT:
                    self._kept.popitem(last=False)
            data = self._kept[group][row]
        if data is None:
            raise ImageError(f"{self.name(index)}: holds no bytes of the image.")
        return data

    def _place(self, index: int) -> tuple[Path, int, int]:
        """The file, the row group, and the row in it."""
        group = int(np.searchsorted(self._ends, index, side="right"))
        start = int(self._ends[group - 1]) if group else 0
        number, within = self._groups[group]
        return self.paths[number], within, index - start

    def _read(self, group: int) -> list[bytes | None]:
        number, within = self._groups[group]
        path = self.paths[number]
        pyarrow, parquet = import_pyarrow(path)
        try:
            table = parquet.ParquetFile(path).read_row_group(within, columns=[f"{_IMAGE}.bytes"])
        except (pyarrow.ArrowException, OSError) as error:
            raise ImageError(f"{path}: cannot be read: {error}. Fetch it again.") from error
        encoded: list[bytes | None] = (
            table.column(_IMAGE).combine_chunks().field("bytes").to_pylist()
        )
        return encoded

"""Images in a folder, or in an archive that stays unopened."""

import os
import struct
import threading
import zipfile
import zlib
from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath

from maskatlas.data import EncodedImages
from maskatlas.errors import DataError, ImageError
from maskatlas.images import SUFFIXES, describe_content

_MOST_BYTES = 256 * 2**20  # of one encoded image; what is larger is no image of 64 megapixels
_STORED, _DEFLATED = 0, 8
_BAD_ZIP = (zipfile.BadZipFile, NotImplementedError)
_OPENING = threading.Lock()
_LOCAL_HEADER = struct.Struct("<4s5H3L2H")


class FolderImages(EncodedImages):
    """Images in a folder, each under a name relative to it."""

    def __init__(self, root: Path, names: Sequence[str]) -> None:
        self.root = root
        self.names = tuple(names)

    def name(self, index: int) -> str:
        """The path of an image."""
        return f"{self.root}/{self.names[index]}"

    def content(self, index: int) -> bytes:
        """The bytes of the file."""
        try:
            return Path(self.name(index)).read_bytes()
        except OSError as error:
            raise ImageError(f"{self.name(index)}: cannot be read: {error.strerror}.") from error

    def key(self, index: int) -> bytes:
        """Path, size and the times of the last change."""
        path = self.name(index)
        try:
            state = os.stat(path)
        except OSError as error:
            raise ImageError(f"{path}: cannot be read: {error.strerror}.") from error
        known = (path, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
        return repr(known).encode("utf-8", "surrogateescape")


class ZipImages(EncodedImages):
    """Images in a ZIP archive, read in place; several threads may read at once."""

    def __init__(self, path: Path, members: Sequence[zipfile.ZipInfo]) -> None:
        self.path = path
        self.members = tuple(members)
        self._file: int | None = None

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_file": None}

    def __del__(self) -> None:
        if self._file is not None:
            os.close(self._file)

    def name(self, index: int) -> str:
        """The archive and the member."""
        return f"{self.path}: {self.members[index].filename}"

    def key(self, index: int) -> bytes:
        """Name, checksum and size, as the archive's directory has them."""
        member = self.members[index]
        return repr((member.filename, member.CRC, member.file_size)).encode()

    def content(self, index: int) -> bytes:
        """The bytes of the member, checked against the archive's checksum."""
        member = self.members[index]
        try:
            data = self._read(member)
        except (OSError, zlib.error, struct.error) as error:
            raise ImageError(
                f"{self.name(index)}: cannot be read: {error}. Fetch the archive again."
            ) from error
        if len(data) != member.file_size or zlib.crc32(data) != member.CRC:
            raise ImageError(
                f"{self.name(index)}: its checksum does not fit: the archive is damaged. "
                "Fetch it again."
            )
        return data

    def _read(self, member: zipfile.ZipInfo) -> bytes:
        with _OPENING:
            if self._file is None:
                self._file = os.open(self.path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        header = os.pread(self._file, _LOCAL_HEADER.size, member.header_offset)
        fields = _LOCAL_HEADER.unpack(header)
        if fields[0] != b"PK\x03\x04":
            raise OSError("no member where the archive's directory says")
        start = member.header_offset + _LOCAL_HEADER.size + fields[9] + fields[10]
        packed = os.pread(self._file, member.compress_size, start)
        if member.compress_type == _STORED:
            return packed
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, member.file_size + 1)


def list_archive(path: Path) -> dict[str, zipfile.ZipInfo]:
    """The images in an archive by their file names, without their folders.

    Raises:
        DataError: It is no ZIP archive, is truncated, or holds a name twice, or something that
            cannot be read in place.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (OSError, ValueError, EOFError, struct.error, *_BAD_ZIP) as error:
        with path.open("rb") as file:
            found = describe_content(file.read(512))
        raise DataError(
            f"{path}: expected a ZIP archive of images, found {found} of "
            f"{path.stat().st_size} bytes ({error}). The download was cut short or refused: "
            "fetch it again."
        ) from error
    images: dict[str, zipfile.ZipInfo] = {}
    for member in members:
        name = PurePosixPath(member.filename)
        if name.suffix.lower() not in SUFFIXES or name.name.startswith("."):
            continue
        if "__MACOSX" in name.parts:
            continue
        if name.name in images:
            raise DataError(
                f"{path}: holds {name.name} twice: {images[name.name].filename} and "
                f"{member.filename}. Leave one of them out."
            )
        _check_member(path, member)
        images[name.name] = member
    return images


def _check_member(path: Path, member: zipfile.ZipInfo) -> None:
    if member.compress_type not in (_STORED, _DEFLATED) or member.flag_bits & 1:
        raise DataError(
            f"{path}: {member.filename} is encrypted, or packed in a way that cannot be read in "
            "place. Unpack the archive beside the label table."
        )
    if member.file_size > _MOST_BYTES:
        raise DataError(
            f"{path}: {member.filename} unpacks to {member.file_size} bytes, too much for an image."
        )


def is_image(name: str) -> bool:
    """Whether a file is an image by its name."""
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def list_images(
    folder: Path, *, within: Path | None = None, names: Collection[str] | None = None
) -> set[str]:
    """The names of the images in a folder.

    Args:
        folder: The folder.
        within: What links may not leave: the folder by default. It may itself be a link.
        names: Look for these names, whatever they end in.

    Raises:
        DataError: A link leaves it.
    """
    within = folder if within is None else within
    found: set[str] = set()
    links: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            wanted = is_image(entry.name) if names is None else entry.name in names
            if wanted and entry.is_file():
                found.add(entry.name)
                if entry.is_symlink():
                    links.append(entry.name)
    real = within.resolve()
    if found and not folder.resolve().is_relative_to(real):
        raise DataError(f"{folder}: is a link that leaves {within}. Copy the images into it.")
    outside = sorted(name for name in links if not (folder / name).resolve().is_relative_to(real))
    if outside:
        raise DataError(
            f"{folder / outside[0]}: is a link to {os.readlink(folder / outside[0])}, which lies "
            f"outside of {within} ({len(outside)} such links). Copy the images, or make the "
            "folder itself a link."
        )
    return found

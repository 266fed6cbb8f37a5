"""Files of a folder or of a zip, read in the same way and without writing any."""

import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Final
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo, is_zipfile

from gliogate.errors import ImageError
from gliogate.scans import files_below
from gliogate.volumes.limits import MAX_BYTES, MAX_FILES, naming

_ENCRYPTED: Final = 0x1


@dataclass(frozen=True)
class Entry:
    """One file.

    Attributes:
        name: what errors call it.
        path: where it lies; that of the zip for a file inside of one.
        size: its bytes, as declared; `read` gives no more.
        open: opens it for reading.
    """

    name: str
    path: Path
    size: int
    open: Callable[[], IO[bytes]]

    def head(self, count: int) -> bytes:
        """Reads the first bytes.

        Raises:
            ImageError: the file cannot be read.
        """
        with naming(self.name), self.open() as file:
            return file.read(count)

    def read(self) -> bytes:
        """Reads the whole file.

        Raises:
            ImageError: the file is too large, or cannot be read.
        """
        if self.size > MAX_BYTES:
            raise ImageError(f"{self.name}: has {self.size} bytes, expected at most {MAX_BYTES}")
        with naming(self.name), self.open() as file:
            # Never just read(): what a zip unpacks to may be more than it declares.
            return file.read(self.size)


@contextmanager
def open_entries(path: Path) -> Iterator[list[Entry]]:
    """Lists the files of a folder (recursively) or of a zip, or a file alone; hidden ones are left out.

    Nothing is unpacked to disk.

    Raises:
        ImageError: there are too many files, a folder cannot be read, or the zip is broken, encrypted, compressed other
            than by deflate, too large, or has a path that leaves it.
    """
    if path.is_dir():
        entries = []
        for file in files_below(path):
            entries.append(entry_of(file))
            _check_count(len(entries), path)
        yield sorted(entries, key=lambda entry: entry.name)
    elif is_zipfile(path):
        with ExitStack() as stack:
            with naming(str(path), "is a broken zip"):
                archive = stack.enter_context(ZipFile(path))
                members = [member for member in archive.infolist() if not member.is_dir()]
                _check_count(len(members), path)
                _check_members(members, path)
            yield [_member(archive, member, path) for member in members]
    else:
        with naming(str(path)):
            entry = entry_of(path)
        yield [entry]


def entry_of(path: Path) -> Entry:
    """A file by itself.

    Raises:
        OSError: there is none.
    """
    return Entry(str(path), path, path.stat().st_size, lambda: path.open("rb"))


def _member(archive: ZipFile, member: ZipInfo, path: Path) -> Entry:
    return Entry(f"{path}: {member.filename}", path, member.file_size, lambda: archive.open(member))


def _check_count(count: int, path: Path) -> None:
    if count > MAX_FILES:
        raise ImageError(f"{path}: has more than {MAX_FILES} files")


def _check_members(members: list[ZipInfo], path: Path) -> None:
    for member in members:
        name = f"{path}: {member.filename}"
        inside = PurePosixPath(member.filename), PureWindowsPath(member.filename)
        if any(one.is_absolute() or one.drive or ".." in one.parts for one in inside):
            raise ImageError(f"{name}: leads out of the zip")
        if stat.S_ISLNK(member.external_attr >> 16):
            raise ImageError(f"{name}: is a link, expected files")
        if member.flag_bits & _ENCRYPTED:
            raise ImageError(f"{name}: is encrypted: unpack it first")
        if member.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
            raise ImageError(f"{name}: has compression {member.compress_type}, expected none or deflate: unpack it")
    total = sum(member.file_size for member in members)
    if total > MAX_BYTES:
        raise ImageError(f"{path}: unpacks to {total} bytes, expected at most {MAX_BYTES}: unpack what is needed")

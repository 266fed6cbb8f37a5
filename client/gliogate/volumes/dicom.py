"""DICOM: finding the series in files, and reading them as sequences."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gliogate.errors import ImageError
from gliogate.volumes.dicom_file import DicomFile, Frame, is_dicom, quiet_pydicom, series_uids
from gliogate.volumes.dicom_place import place_frames, refuse_mixed
from gliogate.volumes.entries import Entry, open_entries
from gliogate.volumes.layout import plane_across
from gliogate.volumes.limits import MAX_SLICES, check_shape
from gliogate.volumes.sequences import Kind, Picked, Sequence3, pick, recognise
from gliogate.volumes.volume import Range, Series, Volume, combine, to_finite_float32

_IDENTITY: Final = ("PatientID", "StudyInstanceUID", "FrameOfReferenceUID")

_DIRECTIONS_APART: Final = 0.1
"""By how much cosines of directions differ that are not meant to be the same; less is an error in one."""

_ECHOES_APART_MS: Final = 1.0

Choice = str | Mapping[Sequence3, str]
"""A series by its SeriesInstanceUID, SeriesNumber or SeriesDescription; or one for each sequence."""


def read_dicom(path: Path, choice: Choice | None = None, *, window: bool = False) -> Volume:
    """Reads the series that a DICOM file, a folder or a zip holds.

    Args:
        path: a file, a folder (with all that is below it) or a zip.
        choice: one series, that stands for all sequences as FLAIR does; or one for each sequence. Without it, series
            are recognised by what they say of themselves, or there is only one.
        window: scale each sequence by the window that it asks to be shown in.

    Raises:
        MissingExtraError: pydicom is not installed.
        ImageError: a file is broken or too large, no series or more than one comes into
            question, the choice names none, or geometries are mixed.
    """
    with open_entries(path) as entries, quiet_pydicom():
        found, broken = _find_series(entries, path)
        chosen = _choose(found, choice, path)
        if broken and chosen.notes:
            raise broken[0].error  # It may be FLAIR that is broken.
        left_out = _leave_out(broken, chosen.sequences.values(), path)
        with _naming_parts(found):
            volume = combine({kind: _load(one, window=window) for kind, one in chosen.sequences.items()})
    ignored = [str(one) for one in found if one not in chosen.sequences.values()]
    notes = [*volume.notes, *chosen.notes, *([f"{path}: left out {'; '.join(ignored)}"] if ignored else []), *left_out]
    return replace(volume, notes=tuple(notes))


def read_dicom_series(path: Path, choice: str | None = None, *, window: bool = False) -> Series:
    """Reads one series of a DICOM file, folder or zip.

    Raises:
        ImageError: as `read_dicom`.
    """
    with open_entries(path) as entries, quiet_pydicom():
        found, broken = _find_series(entries, path)
        mains = [one for one in found if not one.part]
        if choice is None and len(mains) > 1:
            raise ImageError(f"{path}: holds {len(mains)} series: {'; '.join(map(str, found))}: choose one")
        one = mains[0] if choice is None else _named(found, choice, path)
        left_out = _leave_out(broken, [one], path)
        if parts := [str(other) for other in found if other.uid == one.uid and other is not one]:
            left_out.append(f"{path}: left out {'; '.join(parts)}")
        with _naming_parts(found):
            series = _load(one, window=window)
    return replace(series, notes=(*series.notes, *left_out))


@contextmanager
def _naming_parts(found: Iterable["_Found"]) -> Iterator[None]:
    """A series that cannot be read may lack what was taken for no part of it: the error then says what that is."""
    try:
        yield
    except ImageError as error:
        if parts := [str(one) for one in found if one.part]:
            raise ImageError(f"{error} (left out of the series: {'; '.join(parts)})") from error
        raise


@dataclass(frozen=True, eq=False)
class _Found:
    """A series as its headers describe it, or a part of one that holds pictures of several kinds.

    Attributes:
        uid: its SeriesInstanceUID.
        files: its files.
        part: what tells a part from the main one of the series; empty for that.
    """

    uid: str
    files: tuple[DicomFile, ...]
    part: str = ""

    def __str__(self) -> str:
        frames = self.frame_count
        number = self._first.text("SeriesNumber") or "-"
        return f"number {number}, {self.description!r}, {frames} slices, {self.uid}"

    @property
    def _first(self) -> DicomFile:
        return self.files[0]

    @property
    def frame_count(self) -> int:
        return sum(file.frame_count for file in self.files)

    @property
    def description(self) -> str:
        described = self._first.text("SeriesDescription")
        return f"{described}, {self.part}" if self.part else described

    @property
    def names(self) -> tuple[str, ...]:
        """What a choice may call it."""
        if self.part:
            return (self.description,)
        return self.uid, self._first.text("SeriesNumber"), self.description

    @property
    def sequence(self) -> Kind:
        described = self.description or self._first.text("ProtocolName")
        return recognise(described, contrast_agent=bool(self._first.text("ContrastBolusAgent")))


@dataclass(frozen=True, eq=False)
class _Aspect:
    """What is the same of all pictures of a stack.

    Attributes:
        orientation: (2, 3), None where a file does not say it, or has many pictures.
        echo_ms: 0 then.
    """

    orientation: NDArray[np.float64] | None = None
    echo_ms: float = 0.0

    @classmethod
    def of(cls, file: DicomFile) -> "_Aspect":
        if file.text("NumberOfFrames") not in ("", "1"):
            return cls()
        try:
            return cls(file.orientation(), file.number("EchoTime", 0))
        except ImageError:  # Told when the series is read, if it is.
            return cls()

    def is_like(self, other: "_Aspect") -> bool:
        return not self.unlike(other)

    def unlike(self, other: "_Aspect") -> str:
        """In words, how this differs from another; empty where it does not, or is not known to."""
        ours, theirs = self.orientation, other.orientation
        if ours is not None and theirs is not None and np.abs(ours - theirs).max() > _DIRECTIONS_APART:
            own, their = (plane_across(np.cross(*each)) for each in (ours, theirs))
            return own if own != their else f"orientation {ours.round(2).ravel().tolist()}"
        if abs(self.echo_ms - other.echo_ms) > _ECHOES_APART_MS:
            return f"echo time {self.echo_ms:g} ms" if self.echo_ms else "no echo time"
        return ""


class _Broken(NamedTuple):
    """A file whose header cannot be read."""

    entry: Entry
    error: ImageError


def _find_series(entries: Iterable[Entry], path: Path) -> tuple[list[_Found], list[_Broken]]:
    """Sorts the DICOM pictures among files by series, and the broken ones out; other files are none of ours."""
    files: dict[str, list[DicomFile]] = {}
    broken: list[_Broken] = []
    others: list[Entry] = []
    for entry in entries:
        if not is_dicom(entry):
            others.append(entry)
        else:
            try:
                file = DicomFile(entry)
                if file.has_pictures:
                    files.setdefault(file.text("SeriesInstanceUID"), []).append(file)
            except ImageError as error:
                broken.append(_Broken(entry, error))
    # What is called as the pictures are and is none may be one that was cut short; without an ending, if it is empty.
    endings = {PurePath(file.entry.name).suffix for ones in files.values() for file in ones}
    for entry in others:
        ending = PurePath(entry.name).suffix
        if ending in endings and (ending or not entry.size):
            reason = "is no DICOM, though it is called as such" if entry.size else "is empty"
            broken.append(_Broken(entry, ImageError(f"{entry.name}: {reason}")))
    if not files and broken:
        raise broken[0].error
    if not files:
        raise ImageError(f"{path}: holds no DICOM pictures")
    return [part for uid, ones in files.items() for part in _parts(uid, ones)], broken


def _parts(uid: str, files: Sequence[DicomFile]) -> list[_Found]:
    """Parts a series into pictures of one direction and one echo; the largest, or the first echo, stands for it.

    Scanners put localizers and further echoes beside the pictures that they belong to.
    """
    groups: dict[_Aspect, list[DicomFile]] = {}
    for file in files:
        own = _Aspect.of(file)
        groups.setdefault(next((one for one in groups if one.is_like(own)), own), []).append(file)
    main = max(groups, key=lambda one: (len(groups[one]), -one.echo_ms))
    return [
        _Found(uid, tuple(group), "" if one is main else one.unlike(main) or "another part")
        for one, group in groups.items()
    ]


def _leave_out(broken: Sequence[_Broken], chosen: Collection[_Found], path: Path) -> list[str]:
    """Notes which broken files are left out, being of other series.

    Raises:
        ImageError: one is of a chosen series, or may be: without it, a slice at either end would be lost in silence.
    """
    ours = {one.uid for one in chosen}
    for entry, error in broken:
        if not (named := series_uids(entry)):
            raise ImageError(f"{error}; it does not say of which series it is: remove it, if of another") from error
        if named & ours:
            raise error
    if not broken:
        return []
    return [f"{path}: left out {len(broken)} broken files of other series, the first: {broken[0].error}"]


def _choose(found: Sequence[_Found], choice: Choice | None, path: Path) -> Picked[_Found]:
    if isinstance(choice, str):
        return Picked({"flair": _named(found, choice, path)})
    if choice is not None:
        return Picked({kind: _named(found, name, path) for kind, name in choice.items()})
    ask = "choose with series=, by UID, number or description"
    return pick({one: one.sequence for one in found if not one.part}, where=str(path), ask=ask)


def _named(found: Sequence[_Found], name: str, path: Path) -> _Found:
    named = [one for one in found if name and name in one.names]
    if len(named) != 1:
        listed = "; ".join(map(str, found))
        raise ImageError(f"{path}: {len(named)} series are called {name!r}, expected one of: {listed}")
    return named[0]


def _load(found: _Found, *, window: bool) -> Series:
    """Reads the pixels of a series, in the order of their place in the patient."""
    found, copies = _without_copies(found)
    name = f"{found.files[0].entry.path}: series {found}"
    if (count := sum(file.frame_count for file in found.files)) > MAX_SLICES:
        raise ImageError(f"{name}: {count} frames, expected at most {MAX_SLICES}")
    first_file = found.files[0]
    patients = {file.text("PatientID"): file.entry.name for file in found.files}
    patients.pop("", None)  # Files of which some were anonymized may still be of one patient.
    if len(patients) > 1:
        listed = ", ".join(f"{patient!r} in {file}" for patient, file in patients.items())
        raise ImageError(f"{name}: PatientID is {listed}: expected one patient")
    identity = {keyword: first_file.text(keyword) for keyword in _IDENTITY} | {"PatientID": "".join(patients)}
    for file in found.files:
        if file.shape != first_file.shape:
            refuse_mixed(first_file.entry.name, file.entry.name, "Rows and Columns", first_file.shape, file.shape)
    check_shape((count, *first_file.shape), f"{name}: frames, Rows and Columns")
    placed = place_frames([frame for file in found.files for frame in file.frames()], name)
    modality = first_file.text("Modality")
    remark = () if modality in ("", "MR") else (f"{name}: Modality is {modality}, but the networks know MR alone",)
    files = dict.fromkeys(frame.file for frame in placed.frames)
    return Series(
        voxels=_stack(placed.frames, window=window).transpose(2, 1, 0),
        affine=placed.affine,
        spacing_mm=placed.spacing_mm,
        name=name,
        source=tuple(dict.fromkeys(file.entry.path for file in found.files)),
        notes=(*placed.notes, *remark, *([f"{name}: left out {copies} copies of its instances"] if copies else [])),
        window=_window(placed.frames) if window else None,
        identity=identity,
        origin=DicomOrigin(tuple(file.header for file in files), tuple(frame.index for frame in placed.frames)),
    )


def _without_copies(found: _Found) -> tuple[_Found, int]:
    """Leaves out files that hold what another does, under the same SOPInstanceUID, and counts them.

    Two that differ stay both: which of them is the slice is not for us to say.
    """
    kept: dict[str, list[DicomFile]] = {}
    for file in found.files:
        same = kept.setdefault(file.text("SOPInstanceUID"), [])
        if not same or not same[0].text("SOPInstanceUID") or not any(file.is_copy_of(other) for other in same):
            same.append(file)
    files = tuple(file for ones in kept.values() for file in ones)
    return replace(found, files=files), len(found.files) - len(files)


def _window(frames: Sequence[Frame]) -> Range:
    """One window for all slices, so that they stay comparable: in the middle of those that they ask for."""
    black, white = np.median([frame.window for frame in frames], axis=0).tolist()
    is_negative = frames[0].file.is_negative
    return (-white, -black) if is_negative else (black, white)


@dataclass(frozen=True, eq=False)
class DicomOrigin:
    """The instances that a volume was read from.

    Attributes:
        headers: their datasets, without pixels: one for each slice, or a single one with many frames.
        frames: the index of each slice among the frames of its file.
    """

    headers: tuple[Any, ...]
    frames: tuple[int, ...]


def _stack(frames: Sequence[Frame], *, window: bool) -> NDArray[Any]:
    """Decodes frames, (K, rows, columns), to float32 with all scaling applied.

    To uint8 where that is what they hold, and no window changes it.
    """
    places: dict[DicomFile, list[int]] = {}
    for index, frame in enumerate(frames):
        places.setdefault(frame.file, []).append(index)
    is_plain = not window and all(_is_plain(frame) for frame in frames)
    stack = np.empty((len(frames), *frames[0].file.shape), np.uint8 if is_plain else np.float32)
    has_padding = False
    for file, indices in places.items():
        pixels = file.pixels()
        for index in indices:
            frame = frames[index]
            stored = pixels[frame.index]
            if is_plain:
                stack[index] = stored
                continue
            with np.errstate(over="ignore"):  # What overflows is infinite, and told so.
                scaled = stored * np.float64(frame.slope) + frame.intercept
            if file.is_negative:
                scaled = -scaled
            stack[index] = to_finite_float32(scaled, frame.name)
            if (padding := file.is_padding(stored)) is not None:
                stack[index][padding] = np.nan
                has_padding = True
    if has_padding:
        # What lies outside of the picture must not be its black: it may be far below all else.
        inside = stack[~np.isnan(stack)]
        stack[np.isnan(stack)] = inside.min() if inside.size else 0
    return stack


def _is_plain(frame: Frame) -> bool:
    """Whether stored values are 8-bit and mean what they say."""
    file = frame.file
    is_bright = file.text("PhotometricInterpretation") == "MONOCHROME2" and file.value("PixelPaddingValue") is None
    is_uint8 = file.whole("BitsAllocated") == 8 and file.number("PixelRepresentation", 0) == 0
    return is_uint8 and is_bright and frame.slope == 1 and frame.intercept == 0

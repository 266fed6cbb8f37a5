"""Where the pictures of a DICOM series lie in the patient: their order, their spacing and their affine."""

from typing import Final, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from gliogate.errors import ImageError
from gliogate.volumes.dicom_file import DIRECTION_TOLERANCE, SMALLEST_MM, Frame

POSITION_TOLERANCE: Final = 0.1
"""How far, in units of the spacing between slices, a slice may be from where even spacing would have it."""

_LPS_TO_RAS: Final = np.diag([-1.0, -1.0, 1.0])


class Placed(NamedTuple):
    """Frames in their order in the patient.

    Attributes:
        frames: from first to last slice.
        affine: (4, 4), from (column, row, slice) to mm, RAS+; None where the files do not say.
        spacing_mm: between columns, rows and slices; None where the files do not say.
        notes: what the files do not say.
    """

    frames: list[Frame]
    affine: NDArray[np.float64] | None
    spacing_mm: tuple[float, float, float] | None
    notes: tuple[str, ...] = ()


def place_frames(frames: list[Frame], name: str) -> Placed:
    """Sorts the frames of a series by their place along the slices' normal, not by file name or number.

    A series without positions is sorted by InstanceNumber.

    Raises:
        ImageError: directions or spacings differ, two frames are in one place, a slice is missing, or nothing tells
            their order.
    """
    first = frames[0]
    for other in frames:
        for field, ours, theirs in (
            ("ImageOrientationPatient", first.orientation, other.orientation),
            ("PixelSpacing", first.spacing, other.spacing),
        ):
            if not _is_same(ours, theirs):
                refuse_mixed(first.name, other.name, field, _said(ours), _said(theirs))
        if (first.position is None) != (other.position is None):
            field = "ImagePositionPatient"
            refuse_mixed(first.name, other.name, field, _said(first.position), _said(other.position))
    if first.position is None or first.orientation is None:
        return _place_by_number(frames, name)
    normal = np.cross(*first.orientation)
    frames = sorted(frames, key=lambda frame: float(normal @ _known(frame.position)))
    positions = np.array([frame.position for frame in frames])
    step = _step(frames, positions, normal, name)
    if step is None or first.spacing is None:
        missing = "PixelSpacing" if first.spacing is None else "SpacingBetweenSlices"
        return Placed(frames, None, None, (f"{name}: spacing and orientation are unknown: {missing} is missing",))
    between_rows, between_columns = first.spacing
    along_row, along_column = first.orientation
    affine = np.eye(4)
    affine[:3] = _LPS_TO_RAS @ np.column_stack(
        [along_row * between_columns, along_column * between_rows, step, positions[0]]
    )
    return Placed(frames, affine, (float(between_columns), float(between_rows), float(np.linalg.norm(step))))


def _is_same(ours: NDArray[np.float64] | None, theirs: NDArray[np.float64] | None) -> bool:
    if ours is None or theirs is None:
        return ours is theirs
    return bool(np.abs(ours - theirs).max() <= DIRECTION_TOLERANCE)


def _said(numbers: NDArray[np.float64] | None) -> str:
    return "missing" if numbers is None else str(numbers.ravel().tolist())


def _known(position: NDArray[np.float64] | None) -> NDArray[np.float64]:
    assert position is not None  # noqa: S101  either all frames have one, or none
    return position


def _step(
    frames: list[Frame], positions: NDArray[np.float64], normal: NDArray[np.float64], name: str
) -> NDArray[np.float64] | None:
    """The vector from one slice to the next, in mm (LPS+); None for a single slice that says nothing of it."""
    if len(frames) == 1:
        file = frames[0].file
        between = file.number("SpacingBetweenSlices", 0) or file.number("SliceThickness", 0)
        return normal * abs(between) if abs(between) > SMALLEST_MM else None
    step = np.asarray((positions[-1] - positions[0]) / (len(frames) - 1))
    distance = float(normal @ step)
    gaps = np.diff(positions @ normal)
    at = int(np.argmin(gaps))
    if gaps[at] <= max(POSITION_TOLERANCE * distance, SMALLEST_MM):
        raise ImageError(
            f"{name}: {frames[at].name} and {frames[at + 1].name} have the same ImagePositionPatient, "
            f"{positions[at].tolist()}: expected one volume in a series"
        )
    expected = positions[0] + np.arange(len(frames))[:, np.newaxis] * step
    off = np.linalg.norm(positions - expected, axis=1)
    if off.max() > POSITION_TOLERANCE * distance:
        at = int(np.argmax(np.abs(gaps - np.median(gaps))))
        raise ImageError(
            f"{name}: uneven ImagePositionPatient: {gaps[at]:.2f} mm between {frames[at].name} and "
            f"{frames[at + 1].name}, {np.median(gaps):.2f} mm between most others: is a slice missing?"
        )
    return step


def _place_by_number(frames: list[Frame], name: str) -> Placed:
    """Sorts frames that have no place in the patient by InstanceNumber, and by their order in the file."""
    order = [(frame.file.number("InstanceNumber", 0), frame.index) for frame in frames]
    if len(set(order)) < len(frames):
        raise ImageError(
            f"{name}: ImagePositionPatient or ImageOrientationPatient is missing, and InstanceNumber does not tell "
            "the slices apart: their order is unknown"
        )
    frames = [frames[index] for index in sorted(range(len(frames)), key=order.__getitem__)]
    between = frames[0].file.number("SpacingBetweenSlices", 0)
    missing = "ImagePositionPatient or ImageOrientationPatient is missing, slices are ordered by InstanceNumber"
    if frames[0].spacing is None or abs(between) < SMALLEST_MM:
        return Placed(frames, None, None, (f"{name}: spacing and orientation are unknown: {missing}",))
    spacing = (float(frames[0].spacing[1]), float(frames[0].spacing[0]), abs(between))
    return Placed(frames, None, spacing, (f"{name}: orientation is unknown: {missing}",))


def refuse_mixed(first: str, other: str, field: str, ours: object, theirs: object) -> NoReturn:
    """Says that two files of one series differ where they must not.

    Raises:
        ImageError: always.
    """
    raise ImageError(f"mixed geometry in one series: {field} is {ours} in {first}, but {theirs} in {other}")

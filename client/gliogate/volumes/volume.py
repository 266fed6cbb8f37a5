"""A volume: the slices of a head, ready for the networks, and how they lie in the grid that they were read from."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gliogate.contract import CHANNELS
from gliogate.errors import ImageError
from gliogate.images import LARGEST_VALUE
from gliogate.intensity import value_range
from gliogate.volumes.layout import Layout, Plane, Scalar, spacing_of
from gliogate.volumes.resampling import onto_grid
from gliogate.volumes.sequences import CHANNEL_OF, SEQUENCES, Sequence3

GEOMETRY_TOLERANCE: Final = 0.5
"""How far, in units of the smallest spacing, the voxels of two sequences may lie apart and still be the same voxels."""

SQUARE_RATIO: Final = 1.2
"""Up to which ratio of their sides pixels pass for square."""

Range = tuple[float, float]
"""The source's values that became 0 and 255."""


@dataclass(frozen=True, eq=False)
class Series:
    """One sequence as its source holds it.

    Attributes:
        voxels: (I, J, K), grey; uint8 is taken as it is, float32 is scaled when it becomes slices. All finite.
        affine: (4, 4), from (i, j, k) to mm, RAS+; None where the source does not say.
        spacing_mm: between neighbours along i, j and k; None where the source does not say.
        name: what errors call it.
        source: the files.
        notes: what was found remarkable.
        window: the values that are to become 0 and 255; None for the volume's own.
        identity: what its source says of whose it is, of `PatientID`, `StudyInstanceUID` and `FrameOfReferenceUID`.
        assumed_layout: how slices are laid into a grid without an affine.
        origin: the source's own headers, for those who write back into its format.
    """

    voxels: NDArray[Any] = field(repr=False)
    affine: NDArray[np.float64] | None
    spacing_mm: tuple[float, float, float] | None
    name: str
    source: tuple[Path, ...]
    notes: tuple[str, ...] = ()
    window: Range | None = None
    identity: Mapping[str, str] = field(default_factory=dict)
    assumed_layout: Layout = field(default_factory=Layout)
    origin: Any = field(default=None, repr=False)

    @property
    def layout(self) -> Layout:
        """How slices are laid into its grid."""
        return self.assumed_layout if self.affine is None else Layout.of(self.affine, self.voxels.shape)


@dataclass(frozen=True, eq=False)
class Volume:
    """The slices of a head, and how they lie in the *grid*: the voxels (i, j, k) of the source.

    A slice shows the patient's right on the left, anterior up (superior in coronal and sagittal slices), where the
    source says how the patient lay. Slices and grid hold the same voxels in another order; nothing is interpolated.

    Attributes:
        slices: uint8 (N, H, W, 3), channels as in `contract.CHANNELS`. 8-bit sources are taken as they are. All others
            are scaled over the whole volume, so that slices stay comparable: the minimum of a sequence became 0, its
            99.9th percentile 255, without burned-in marks (`gliogate.intensity`); or what the window of a DICOM source
            says, where that was asked for.
        ranges: the source's values that became 0 and 255, for each channel.
        sequences: those of `contract.CHANNELS` that are in the source; FLAIR stands in for the others.
        layout: how the slices lie in the grid.
        affine: (4, 4), from the grid's (i, j, k) to mm, RAS+ as in NIfTI; None where the source does not say.
        spacing_mm: between neighbours along columns (x), rows (y) and slices; None where the source does not say.
        source: the files.
        notes: what the reader should know: what stands in, what is not known, what was left out.
        series: what each of `sequences` was read from, in their order; empty where the slices held all of them.
        origin: the headers of FLAIR's source, for `gliogate.volumes.writing`.
    """

    slices: NDArray[np.uint8] = field(repr=False)
    ranges: tuple[Range, Range, Range]
    sequences: tuple[str, ...]
    layout: Layout
    affine: NDArray[np.float64] | None
    spacing_mm: tuple[float, float, float] | None
    source: tuple[Path, ...]
    notes: tuple[str, ...] = ()
    series: tuple[str, ...] = ()
    origin: Any = field(default=None, repr=False)

    @property
    def grid_shape(self) -> tuple[int, int, int]:
        """Voxels along i, j and k."""
        i, j, k = self.layout.to_grid(self.slices[..., 0]).shape
        return i, j, k

    @property
    def plane(self) -> Plane | None:
        """The anatomical plane that the slices are nearest to; None where the source does not say."""
        return None if self.affine is None else self.layout.plane(self.affine)

    @property
    def slices_affine(self) -> NDArray[np.float64] | None:
        """(4, 4), from (slice, row, column) to mm, RAS+; None where the source does not say."""
        return None if self.affine is None else self.layout.to_slices_affine(self.affine, self.grid_shape)

    @property
    def voxel_ml(self) -> float | None:
        """Millilitres of one voxel; None where the source does not say."""
        if self.affine is not None:
            return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000
        return None if self.spacing_mm is None else float(np.prod(self.spacing_mm)) / 1000

    def to_dict(self) -> dict[str, Any]:
        """All but the pixels, as values that JSON has; what is unknown is None."""
        return {
            "source": [str(path) for path in self.source],
            "shape": list(self.slices.shape[:3]),
            "sequences": list(self.sequences),
            "series": list(self.series),
            "plane": self.plane,
            "spacing_mm": self.spacing_mm and list(self.spacing_mm),
            "notes": list(self.notes),
        }

    def to_grid(self, slices: NDArray[Scalar]) -> NDArray[Scalar]:
        """Brings an array on the slices, (N, H, W), onto the grid, (I, J, K).

        Raises:
            ValueError: it has another shape.
        """
        if slices.shape != self.slices.shape[:3]:
            raise ValueError(f"shape {slices.shape}, expected that of the slices, {self.slices.shape[:3]}")
        return self.layout.to_grid(slices).copy(order="K")


def combine(series: Mapping[Sequence3, Series]) -> Volume:
    """Makes a volume of up to three sequences of one head; FLAIR stands in for those that are missing.

    Args:
        series: FLAIR at least. One on another grid is resampled onto FLAIR's, or left out where it does not cover that;
            the notes say so. Grids may run along other axes, and be off by half of the smallest spacing.

    Raises:
        ImageError: FLAIR is missing, the series are of several patients, or their geometries differ and they do not say
            where they lie.
    """
    if "flair" not in series:
        given = f"but only {', '.join(series)} are given" if series else "but none are given"
        raise ImageError(f"FLAIR is missing: it stands in for others, {given}")
    flair = series["flair"]
    planes: dict[Sequence3, NDArray[np.uint8]] = {}
    ranges: dict[Sequence3, Range] = {}
    odd: list[str] = []
    series, moved = _on_one_grid(series)
    for kind, one in series.items():
        planes[kind], ranges[kind], found = _to_uint8(one.layout.to_slices(one.voxels), one.window)
        odd += [f"{one.name}: {note}" for note in found]
    missing = [CHANNEL_OF[kind] for kind in SEQUENCES if kind not in series]
    notes = [f"{flair.name}: FLAIR stands in for {' and '.join(missing)}"] if missing else []
    notes += [note for one in series.values() for note in one.notes]
    notes += [*moved, *odd]
    notes += [
        f"{one.name} and {flair.name} have different {field}: are they of one head, at one time?"
        for one in series.values()
        for field in ("StudyInstanceUID", "FrameOfReferenceUID")
        if _differs(flair, one, field)
    ]
    layout = flair.layout
    through, rows, columns = layout.axes
    spacing = flair.spacing_mm and (flair.spacing_mm[columns], flair.spacing_mm[rows], flair.spacing_mm[through])
    if len(series) > 1 and any(one.affine is None for one in series.values()):
        notes.append(f"{flair.name}: where the sequences lie is not known for all: only their shapes were compared")
    if flair.affine is not None and (plane := layout.plane(flair.affine)) != "axial":
        notes.append(f"{flair.name}: slices are {plane}, but the networks know axial ones alone")
    if spacing is not None and max(spacing[:2]) > SQUARE_RATIO * min(spacing[:2]):
        notes.append(f"{flair.name}: pixels are {spacing[0]:g} x {spacing[1]:g} mm, but the networks know square ones")
    first, second, third = (ranges.get(kind, ranges["flair"]) for kind in SEQUENCES)
    return Volume(
        slices=np.stack([planes.get(kind, planes["flair"]) for kind in SEQUENCES], axis=-1),
        ranges=(first, second, third),
        sequences=tuple(CHANNEL_OF[kind] for kind in SEQUENCES if kind in series),
        layout=layout,
        affine=flair.affine,
        spacing_mm=spacing,
        source=tuple(dict.fromkeys(path for one in series.values() for path in one.source)),
        notes=tuple(notes),
        series=tuple(series[kind].name for kind in SEQUENCES if kind in series),
        origin=flair.origin,
    )


def of_slices(slices: NDArray[Any], *, name: str, source: tuple[Path, ...]) -> Volume:
    """Makes a volume of slices of which nothing but the order is known.

    Args:
        slices: (N, H, W) or (N, H, W, 3), integers or floats.
        name: what errors call them.
        source: the files.

    Raises:
        ImageError: values are NaN or infinite.
    """
    colored = slices if slices.ndim == 4 else slices[..., np.newaxis]
    planes, ranges, odd = [], [], []
    for channel in range(colored.shape[3]):
        values = colored[..., channel]
        plane, plane_range, found = _to_uint8(values if values.dtype == np.uint8 else to_finite_float32(values, name))
        planes.append(plane)
        ranges.append(plane_range)
        odd += [f"{name}: {note}" for note in found if f"{name}: {note}" not in odd]
    if len(planes) == 1:
        planes, ranges = planes * len(CHANNELS), ranges * len(CHANNELS)
    flair = planes[SEQUENCES.index("flair")]
    # In the Kaggle set, too, FLAIR stands in where a sequence was not taken.
    is_flair = [np.array_equal(plane, flair) for plane in planes]
    sequences = [c for c, same in zip(CHANNELS, is_flair, strict=True) if not same or c == CHANNEL_OF["flair"]]
    missing = [channel for channel in CHANNELS if channel not in sequences]
    notes = [f"{name}: FLAIR stands in for {' and '.join(missing)}"] if missing else []
    first, second, third = ranges
    return Volume(
        slices=np.stack(planes, axis=-1),
        ranges=(first, second, third),
        sequences=tuple(sequences),
        layout=Layout(),
        affine=None,
        spacing_mm=None,
        source=source,
        notes=(*notes, *odd, f"{name}: spacing and orientation are unknown"),
    )


def to_finite_float32(values: NDArray[Any], name: str) -> NDArray[np.float32]:
    """Makes numbers of any type float32.

    Raises:
        ImageError: they are no integers or floats, or some are NaN, infinite or beyond `LARGEST_VALUE`.
    """
    if values.dtype.kind not in "uif":
        raise ImageError(f"{name}: has voxels of type {values.dtype}, expected integers or floats")
    with np.errstate(over="ignore", invalid="ignore"):
        result = values.astype(np.float32)
    finite = np.abs(result) <= LARGEST_VALUE  # No NaN is.
    if not finite.all():
        first = tuple(np.unravel_index(int(np.argmin(finite)), finite.shape))
        count = finite.size - np.count_nonzero(finite)
        raise ImageError(f"{name}: {count} voxels are NaN, infinite or beyond {LARGEST_VALUE:g}, the first at {first}")
    return result


def _to_uint8(values: NDArray[Any], window: Range | None = None) -> tuple[NDArray[np.uint8], Range, tuple[str, ...]]:
    """Scales slices (N, H, W) of finite float32 by one range, the window's or their own; uint8 is taken as it is.

    Returns:
        The slices, the values that became 0 and 255, and what was found odd of them.
    """
    if values.dtype == np.uint8:
        return values, (0.0, 255.0), ()
    black, white, outside, notes = value_range(values) if window is None else (*window, None, ())
    span = white - black or 1.0
    scaled = np.empty(values.shape, np.uint8)
    for plane, target in zip(values, scaled, strict=True):  # Slice by slice, to need little memory.
        target[:] = np.rint(np.clip((plane.astype(np.float64) - black) / span, 0, 1) * 255)
        if outside is not None:
            target[plane == outside] = 0
    return scaled, (black, white), notes


def _differs(ours: Series, theirs: Series, field: str) -> bool:
    """Whether both say of whom they are, and say so differently."""
    said = [one.identity.get(field) for one in (ours, theirs)]
    return all(said) and said[0] != said[1]


def _check_patient(flair: Series, other: Series) -> None:
    if _differs(flair, other, "PatientID"):
        first, second = (one.identity["PatientID"] for one in (other, flair))
        raise ImageError(
            f"{other.name} and {flair.name} have different PatientID, {first!r} and {second!r}: expected one patient"
        )


def _on_one_grid(series: Mapping[Sequence3, Series]) -> tuple[dict[Sequence3, Series], list[str]]:
    """The series on FLAIR's grid without those that do not cover it, and notes of which were changed or left out."""
    flair = series["flair"]
    kept: dict[Sequence3, Series] = {}
    notes: list[str] = []
    for kind, one in series.items():
        _check_patient(flair, one)
        difference = "" if one is flair else _geometry_difference(flair, one)
        if not difference:
            kept[kind] = one
            continue
        if flair.affine is None or one.affine is None:
            raise ImageError(f"{difference}; bring them onto one grid first")
        left_out = f"{CHANNEL_OF[kind]} is left out, FLAIR stands in for it"
        if _differs(flair, one, "FrameOfReferenceUID"):
            notes.append(f"{difference}, and another FrameOfReferenceUID: {left_out}")
            continue
        voxels = onto_grid(one.voxels, one.affine, grid=flair.affine, shape=flair.voxels.shape)
        if voxels is None:
            notes.append(f"{difference}, and hardly overlap: {left_out}")
            continue
        if one.voxels.dtype == np.uint8:
            voxels = np.rint(voxels).astype(np.uint8)
        kept[kind] = replace(one, voxels=voxels, affine=flair.affine, spacing_mm=flair.spacing_mm)
        notes.append(f"{difference}: {CHANNEL_OF[kind]} was resampled onto the grid of FLAIR")
    return kept, notes


def _geometry_difference(flair: Series, other: Series) -> str:
    """In words, how two grids differ; empty where they hold the same points."""
    described = f"{other.name} and {flair.name} have different geometry"
    shapes = [one.layout.to_slices(one.voxels).shape for one in (other, flair)]
    if shapes[0] != shapes[1]:
        return f"{described}: {shapes[0]} and {shapes[1]} voxels along slices, rows and columns"
    affines = [
        None if one.affine is None else one.layout.to_slices_affine(one.affine, one.voxels.shape)
        for one in (other, flair)
    ]
    if affines[0] is None or affines[1] is None:
        return _spacing_difference(flair, other, described)
    corners = np.array([[*corner, 1] for corner in np.ndindex(2, 2, 2)]) * [*(np.array(shapes[0]) - 1), 1]
    distance = float(np.linalg.norm(((affines[0] - affines[1]) @ corners.T)[:3], axis=0).max())
    if distance > GEOMETRY_TOLERANCE * float(spacing_of(affines[1]).min()):
        return f"{described}: corners are up to {distance:.1f} mm apart"
    return ""


def _spacing_difference(flair: Series, other: Series, described: str) -> str:
    """Holds the sizes of two grids against each other, where it is not known where they lie."""
    if flair.spacing_mm is None or other.spacing_mm is None:
        return ""
    theirs = np.array(other.spacing_mm)[list(other.layout.axes)]
    ours = np.array(flair.spacing_mm)[list(flair.layout.axes)]
    lengths = np.array(flair.layout.to_slices(flair.voxels).shape) - 1
    if (np.abs(theirs - ours) * lengths).max() > GEOMETRY_TOLERANCE * ours.min():
        said = " and ".join(" x ".join(f"{mm:g}" for mm in spacing) for spacing in (theirs, ours))
        return f"{described}: {said} mm along slices, rows and columns"
    return ""

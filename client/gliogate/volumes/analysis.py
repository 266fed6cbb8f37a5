"""What was found in a volume."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from gliogate.contract import Verdict, verdict_of
from gliogate.errors import ImageError
from gliogate.results import Analysis, Reliability
from gliogate.volumes.components import feret_diameter, label_components, split_components
from gliogate.volumes.segmentation import write_dicom_seg
from gliogate.volumes.volume import Volume
from gliogate.volumes.writing import write_csv, write_montage, write_nifti, write_overlays, write_text

Target = str | os.PathLike[str]

ONE_BY_ONE = (
    "slices were judged one by one, not among their neighbours: the server has no brain_volume, or was not asked for it"
)


@dataclass(frozen=True)
class Component:
    """One connected part of the mask; voxels that touch by a face, an edge or a corner are connected.

    Attributes:
        voxels: how many.
        volume_ml: its volume; None where the spacing is unknown.
        first_slice: index of the first slice that shows it.
        last_slice: index of the last.
        diameter_mm: its largest diameter in any one slice; None where the spacing is unknown.
        centroid_mm: right, anterior and superior of the source's origin (RAS+); None where that is unknown.
    """

    voxels: int
    volume_ml: float | None
    first_slice: int
    last_slice: int
    diameter_mm: float | None
    centroid_mm: tuple[float, float, float] | None


@dataclass(frozen=True, eq=False)
class VolumeAnalysis:
    """What the server found in a volume.

    Attributes:
        volume: what was analyzed.
        analyses: one for each slice, as the server gave it.
        mask: uint8 (N, H, W), 1 where tumor is, on the grid of `volume.slices`; without the components that were
            dropped. `Volume.to_grid` brings it onto the source's.
        components: the connected parts of the mask, the largest first.
    """

    volume: Volume
    analyses: tuple[Analysis, ...] = field(repr=False)
    mask: NDArray[np.uint8] = field(repr=False)
    components: tuple[Component, ...]

    @classmethod
    def of(cls, volume: Volume, analyses: Sequence[Analysis], *, min_component_ml: float = 0.0) -> Self:
        """Puts the analyses of a volume's slices together.

        Args:
            volume: the volume.
            analyses: one for each of its slices, in their order.
            min_component_ml: components smaller than that are dropped.

        Raises:
            ValueError: the analyses are not those of the slices, or `min_component_ml` is below 0.
            ImageError: components are to be dropped by millilitres, but the spacing is unknown.
        """
        count, *shape = volume.slices.shape[:3]
        if len(analyses) != count:
            raise ValueError(f"{len(analyses)} analyses, expected {count}: one for each slice")
        for index, analysis in enumerate(analyses):
            if analysis.mask.shape != tuple(shape):
                raise ValueError(f"slice {index}: a mask of shape {analysis.mask.shape}, expected {tuple(shape)}")
        check_droppable(volume, min_component_ml)
        mask = np.stack([analysis.mask != 0 for analysis in analyses]).view(np.uint8)
        labels, found = label_components(mask)
        parts = split_components(labels, found) if found else []
        # The largest come first, so what is kept are the first ones.
        kept = sum(len(voxels) * (volume.voxel_ml or 0) >= min_component_ml for voxels in parts)
        if kept < found:
            mask[labels > kept] = 0
        components = tuple(_component(voxels, volume) for voxels in parts[:kept])
        return cls(volume=volume, analyses=tuple(analyses), mask=mask, components=components)

    @property
    def detected(self) -> bool | None:
        """Whether a slice's probability reached the detection threshold; None where nobody named one."""
        decided = [analysis.detected for analysis in self.analyses]
        return True if any(decided) else None if None in decided else False

    @property
    def verdict(self) -> Verdict:
        """`tumor`: in a slice that was detected, the mask has voxels; `suspicious`: in all of those it is empty.

        `no tumor` where no slice was detected, `undecided` where `detected` is None. Components that were dropped
        count for nothing.
        """
        of_slices = [analysis.detected is True for analysis in self.analyses]
        return verdict_of(detected=self.detected, outlined=bool(self.mask[of_slices].any()))

    @property
    def tumor(self) -> bool | None:
        """Whether the verdict is `tumor`; None where it is `undecided`."""
        return None if self.detected is None else self.verdict == "tumor"

    @property
    def notes(self) -> tuple[str, ...]:
        """What the reader should know: the volume's notes, and whether neighbours were left out of account."""
        alone = len(self.analyses) > 1 and not all(analysis.among_neighbours for analysis in self.analyses)
        return (*self.volume.notes, *[ONE_BY_ONE] * alone)

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """The detector's calibrated probability that a slice shows tumor, float64 (N,)."""
        return np.array([analysis.tumor_probability for analysis in self.analyses])

    @property
    def tumor_volume_ml(self) -> float | None:
        """Millilitres of the mask; None where the spacing is unknown."""
        voxel_ml = self.volume.voxel_ml
        return None if voxel_ml is None else int(np.count_nonzero(self.mask)) * voxel_ml

    @property
    def certainty(self) -> float | None:
        """How well a strict outline agrees with a lax one, 0 to 1; it goes with the Dice.

        That of each slice counts as much as is outlined in it. None where the mask is empty, or the server did not say.
        Components that were dropped count as if they were not.
        """
        areas = np.count_nonzero(self.mask, axis=(1, 2))
        shown = [(area, found.certainty) for area, found in zip(areas.tolist(), self.analyses, strict=True) if area]
        if not shown or any(certainty is None for _, certainty in shown):
            return None
        return float(sum(area * (certainty or 0) for area, certainty in shown) / sum(area for area, _ in shown))

    @property
    def reliability(self) -> Reliability | None:
        """What masks of the served version are worth; None where the server does not know."""
        return next((analysis.reliability for analysis in self.analyses), None)

    @property
    def needs_look(self) -> bool | None:
        """Whether somebody should look at this head: it is suspicious, or its mask not certain.

        The limit of certainty is the served version's. None where the server does not know.
        """
        if self.verdict == "suspicious":
            return True
        certainty = self.certainty
        if self.reliability is None or (certainty is None and self.mask.any()):
            return None
        return self.reliability.needs_look(certainty)

    @property
    def tumor_volume_interval_ml(self) -> tuple[float, float] | None:
        """Between which millilitres nine of ten true volumes lie; None where that, or the spacing, is unknown.

        It holds for heads with tumor like those that the version was measured on; see its model card.
        """
        volume, certainty, reliability = self.tumor_volume_ml, self.certainty, self.reliability
        if not volume or certainty is None or reliability is None:
            return None
        return reliability.volume_interval(volume, certainty)

    @property
    def largest_diameter_mm(self) -> float | None:
        """The largest diameter of a component in one slice; 0 without any, None where the spacing is unknown.

        It is measured in the plane of the slices, as in the RANO criteria (Wen et al. 2010,
        doi:10.1200/JCO.2009.26.3541), and between the outer edges of the pixels.
        """
        if self.volume.spacing_mm is None:
            return None
        return max((component.diameter_mm or 0.0 for component in self.components), default=0.0)

    def save_nifti(self, path: Target) -> None:
        """Writes the mask as NIfTI (`.nii`, `.nii.gz`), 0 and 1, on the source's grid: it opens over the source.

        Raises:
            MissingExtraError: nibabel is not installed (extra `nifti`).
            ImageError: the path has another extension.
            OSError: the file cannot be written; what was there before is left.
        """
        write_nifti(self.mask, self.volume, Path(path))

    def save_dicom_seg(self, path: Target) -> None:
        """Writes the mask as a DICOM segmentation of the instances that FLAIR was read from, coded as neoplasm.

        Slices without tumor have no frame in it. Its certainty, its millilitres and between which the true ones lie are
        in the descriptions of its content and of the segment; that somebody should look at it, in the series' as well.

        Raises:
            MissingExtraError: highdicom is not installed (extra `dicom`).
            ImageError: the mask is empty, the source is not DICOM, or its
                instances lack what a segmentation has to repeat.
            OSError: the file cannot be written; what was there before is left.
        """
        write_dicom_seg(self.mask, self.volume, Path(path), facts=self._facts(), needs_look=bool(self.needs_look))

    def save_overlays(self, folder: Target) -> None:
        """Writes each slice with the mask painted on, `<number>_overlay.png`, into a folder.

        Raises:
            OSError: a file cannot be written.
        """
        count = len(self.analyses)
        write_overlays(map(self._overlay, range(count)), Path(folder), count=count)

    def save_montage(self, path: Target, *, columns: int = 6, rows: int = 5) -> None:
        """Writes one PNG of slices with the mask painted on: spread evenly, the one with the most tumor among them.

        Raises:
            ValueError: `columns` or `rows` is below 1.
            OSError: the file cannot be written; what was there before is left.
        """
        if min(columns, rows) < 1:
            raise ValueError(f"{columns} columns and {rows} rows, expected one at least")
        tiles = {self._label(index): self._overlay(index) for index in self._spread(columns * rows)}
        write_montage(tiles, Path(path), columns=columns)

    def save_csv(self, path: Target) -> None:
        """Writes a table with one line a slice: the profile of the probability and the area along the axis.

        Raises:
            OSError: the file cannot be written; what was there before is left.
        """
        write_csv(self.table(), Path(path))

    def save_json(self, path: Target) -> None:
        """Writes `to_json()`.

        Raises:
            OSError: the file cannot be written; what was there before is left.
        """
        write_text(self.to_json() + "\n", Path(path))

    def to_json(self) -> str:
        """`to_dict()` as JSON."""
        return json.dumps(self.to_dict(), ensure_ascii=False, indent=2)

    def to_dict(self) -> dict[str, Any]:
        """All but the pixels, as values that JSON has; what is unknown is None."""
        interval = self.tumor_volume_interval_ml
        return {
            **self.volume.to_dict(),
            "notes": list(self.notes),
            "verdict": self.verdict,
            "tumor": self.tumor,
            "tumor_volume_ml": self.tumor_volume_ml,
            "tumor_volume_interval_ml": interval and list(interval),
            "certainty": self.certainty,
            "needs_look": self.needs_look,
            "largest_diameter_mm": self.largest_diameter_mm,
            "components": [
                {**vars(component), "centroid_mm": component.centroid_mm and list(component.centroid_mm)}
                for component in self.components
            ],
            "slices": self.table(),
        }

    def table(self) -> list[dict[str, Any]]:
        """One row a slice, what is unknown is None.

        `slice`, `verdict`, `tumor_probability`, `tumor`, `segmented`, `certainty`, `needs_look`, `area_px`, `area_mm2`.

        Verdicts are of the volume's mask, without the components that were dropped.
        """
        spacing = self.volume.spacing_mm
        found = [
            replace(analysis, mask=mask, certainty=analysis.certainty if mask.any() else None)
            for analysis, mask in zip(self.analyses, self.mask, strict=True)
        ]
        return [
            {
                "slice": index,
                "verdict": analysis.verdict,
                "tumor_probability": analysis.tumor_probability,
                "tumor": analysis.tumor,
                "segmented": analysis.segmented,
                "certainty": analysis.certainty,
                "needs_look": analysis.needs_look,
                "area_px": analysis.area_px,
                "area_mm2": None if spacing is None else analysis.area_px * spacing[0] * spacing[1],
            }
            for index, analysis in enumerate(found)
        ]

    def _facts(self) -> list[str]:
        """What is told of the mask in a few words."""
        volume, interval, certainty = self.tumor_volume_ml, self.tumor_volume_interval_ml, self.certainty
        between = "" if interval is None else f" ({interval[0]:.1f}-{interval[1]:.1f})"
        return [
            *[f"certainty {certainty:.2f}" for certainty in (certainty,) if certainty is not None],
            *[f"{volume:.1f} ml{between}" for volume in (volume,) if volume is not None],
        ]

    def _label(self, index: int) -> str:
        """What stands under a slice in a montage: its number, its probability and its mask's certainty."""
        found = self.analyses[index]
        is_known = found.certainty is not None and self.mask[index].any()
        return f"{index}  {found.tumor_probability:.2f}" + (f"  certainty {found.certainty:.2f}" if is_known else "")

    def _overlay(self, index: int) -> NDArray[np.uint8]:
        """One slice with the mask of the volume on it, in which specks may have been dropped."""
        found = replace(self.analyses[index], picture=self.volume.slices[index], mask=self.mask[index])
        return found.overlay()

    def _spread(self, most: int) -> list[int]:
        """Indices of at most so many slices, evenly spread; the one with the most tumor is among them."""
        count = len(self.analyses)
        if count <= most:
            return list(range(count))
        shown = np.linspace(0, count - 1, most).round().astype(int)
        areas = np.count_nonzero(self.mask, axis=(1, 2))
        if areas.any():
            largest = int(areas.argmax())
            shown[np.abs(shown - largest).argmin()] = largest
        return [int(index) for index in shown]


def check_droppable(volume: Volume, min_component_ml: float) -> None:
    """Whether components of a volume can be dropped by their size; clients ask before they send anything.

    Raises:
        ValueError: `min_component_ml` is below 0.
        ImageError: the spacing is unknown.
    """
    if not min_component_ml >= 0:
        raise ValueError(f"min_component_ml is {min_component_ml}, expected 0 or more")
    if min_component_ml and volume.voxel_ml is None:
        raise ImageError(f"min_component_ml needs the spacing, but it is unknown: {'; '.join(volume.notes)}")


def _component(voxels: NDArray[np.int64], volume: Volume) -> Component:
    """Measures the voxels (slice, row, column) of a component, (n, 3), in the order of their slices."""
    spacing, affine, voxel_ml = volume.spacing_mm, volume.slices_affine, volume.voxel_ml
    diameter = centroid = None
    if spacing is not None:
        planes = np.split(voxels[:, 1:], np.flatnonzero(np.diff(voxels[:, 0])) + 1)
        diameter = max(feret_diameter(plane, (spacing[1], spacing[0])) for plane in planes)
    if affine is not None:
        x, y, z = (affine @ [*voxels.mean(axis=0), 1])[:3].tolist()
        centroid = (x, y, z)
    return Component(
        voxels=len(voxels),
        volume_ml=None if voxel_ml is None else len(voxels) * voxel_ml,
        first_slice=int(voxels[0, 0]),
        last_slice=int(voxels[-1, 0]),
        diameter_mm=diameter,
        centroid_mm=centroid,
    )

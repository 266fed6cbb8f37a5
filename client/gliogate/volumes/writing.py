"""Writing what was found in a volume: NIfTI, pictures, tables.

Every file is written under another name and then renamed, so that a full disk or Ctrl-C leaves no half of one.
"""

import csv
import gzip
from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from gliogate.errors import ImageError
from gliogate.files import replacing
from gliogate.pictures import write_png
from gliogate.scans import OVERLAY_SUFFIX
from gliogate.volumes.analysis import VolumeAnalysis
from gliogate.volumes.extras import require
from gliogate.volumes.nifti import EXTENSIONS as NIFTI_EXTENSIONS
from gliogate.volumes.nifti import is_nifti

TILE: Final = 256
"""The longer side of a slice in a montage, in pixels."""

_UNKNOWN, _SCANNER = 0, 1  # NIfTI's codes of what its coordinates refer to.


def write_nifti(analysis: VolumeAnalysis, path: Path) -> None:
    """Writes the mask on the source's grid; see `VolumeAnalysis.save_nifti`."""
    if not is_nifti(path):
        raise ImageError(f"{path}: expected a name that ends in {' or '.join(NIFTI_EXTENSIONS)}")
    nibabel = require("nibabel", extra="nifti")
    volume = analysis.volume
    mask = volume.to_grid(analysis.mask)
    if isinstance(volume.origin, nibabel.Nifti1Header):
        image = _over_nifti(nibabel, mask, volume.origin)
    else:
        image = nibabel.Nifti1Image(mask, volume.affine)
        code = _UNKNOWN if volume.affine is None else _SCANNER
        image.set_sform(volume.affine, code)
        image.set_qform(volume.affine, code)
        if volume.spacing_mm is not None:
            columns, rows, slices = volume.spacing_mm
            by_axis = dict(zip(volume.layout.axes, (slices, rows, columns), strict=True))
            image.header.set_zooms([by_axis[axis] for axis in range(3)])
            image.header.set_xyzt_units("mm")
    image.header["descrip"] = b"gliogate tumor mask"
    image.header["cal_max"] = 1
    data = image.to_bytes()
    with replacing(path) as draft:
        draft.write_bytes(gzip.compress(data, mtime=0) if path.suffix.lower() == ".gz" else data)


def _over_nifti(nibabel: Any, mask: NDArray[np.uint8], source: Any) -> Any:
    """A mask with the geometry of a source's header, both its forms as they are."""
    header = source.copy()
    header.set_data_shape(mask.shape)
    header.set_data_dtype(mask.dtype)
    header.set_slope_inter(1, 0)
    header["cal_min"] = 0
    kind = nibabel.Nifti2Image if isinstance(source, nibabel.Nifti2Header) else nibabel.Nifti1Image
    return kind(mask, header.get_best_affine(), header)


def write_overlays(analysis: VolumeAnalysis, folder: Path) -> None:
    """Writes one overlay a slice; see `VolumeAnalysis.save_overlays`."""
    folder.mkdir(parents=True, exist_ok=True)
    digits = len(str(len(analysis.analyses) - 1))
    for index in range(len(analysis.analyses)):
        write_png(folder / f"{index:0{digits}d}{OVERLAY_SUFFIX}.png", _overlay(analysis, index))


def write_montage(analysis: VolumeAnalysis, path: Path, *, columns: int, rows: int) -> None:
    """Writes slices side by side; see `VolumeAnalysis.save_montage`."""
    if min(columns, rows) < 1:
        raise ValueError(f"{columns} columns and {rows} rows, expected one at least")
    shown = _spread(analysis, columns * rows)
    columns = min(columns, len(shown))
    height, width = analysis.mask.shape[1:]
    scale = TILE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    canvas = np.zeros((ceil(len(shown) / columns) * size[1], columns * size[0], 3), np.uint8)
    for place, index in enumerate(shown):
        tile = cv2.resize(
            _overlay(analysis, index), size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        )
        label = f"{index}  {analysis.analyses[index].tumor_probability:.2f}"
        cv2.putText(tile, label, (6, size[1] - 8), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (255, 255, 255), 1, cv2.LINE_AA)
        top, left = place // columns * size[1], place % columns * size[0]
        canvas[top : top + size[1], left : left + size[0]] = tile
    write_png(path, canvas)


def write_csv(analysis: VolumeAnalysis, path: Path) -> None:
    """Writes one line a slice; see `VolumeAnalysis.save_csv`."""
    rows = analysis.table()
    with replacing(path) as draft, draft.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_json(analysis: VolumeAnalysis, path: Path) -> None:
    """Writes all but the pixels; see `VolumeAnalysis.save_json`."""
    with replacing(path) as draft:
        # A source's name that is no UTF-8 becomes an escape, which JSON has, too.
        draft.write_text(analysis.to_json() + "\n", encoding="utf-8", errors="backslashreplace")


def _overlay(analysis: VolumeAnalysis, index: int) -> NDArray[np.uint8]:
    """One slice with the mask of the volume on it, in which specks may have been dropped."""
    picture = analysis.volume.slices[index]
    return replace(analysis.analyses[index], picture=picture, mask=analysis.mask[index]).overlay()


def _spread(analysis: VolumeAnalysis, most: int) -> list[int]:
    """Indices of at most so many slices, evenly spread; the one with the most tumor is among them."""
    count = len(analysis.analyses)
    if count <= most:
        return list(range(count))
    shown = np.linspace(0, count - 1, most).round().astype(int)
    areas = np.count_nonzero(analysis.mask, axis=(1, 2))
    if areas.any():
        largest = int(areas.argmax())
        shown[np.abs(shown - largest).argmin()] = largest
    return [int(index) for index in shown]

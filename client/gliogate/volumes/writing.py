"""Writing what was found in a volume: NIfTI, pictures, tables.

Every file is written under another name and then renamed, so that a full disk or Ctrl-C leaves no half of one.
"""

import csv
import gzip
from collections.abc import Iterable, Mapping, Sequence
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
from gliogate.volumes.extras import require
from gliogate.volumes.nifti import EXTENSIONS as NIFTI_EXTENSIONS
from gliogate.volumes.nifti import is_nifti
from gliogate.volumes.volume import Volume

TILE: Final = 256
"""The longer side of a slice in a montage, in pixels."""

_GZIP_LEVEL: Final = 1
"""A mask is mostly nothing: the highest takes four times as long for some kilobytes. It is nibabel's default, too."""

_UNKNOWN, _SCANNER = 0, 1  # NIfTI's codes of what its coordinates refer to.


def write_nifti(mask: NDArray[np.uint8], volume: Volume, path: Path) -> None:
    """Writes a mask (N, H, W) of a volume's slices, on the source's grid; see `VolumeAnalysis.save_nifti`."""
    if not is_nifti(path):
        raise ImageError(f"{path}: expected a name that ends in {' or '.join(NIFTI_EXTENSIONS)}")
    nibabel = require("nibabel", extra="nifti")
    # The first axis runs fastest, as in the file.
    voxels = np.asfortranarray(volume.to_grid(mask))
    if isinstance(volume.origin, nibabel.Nifti1Header):
        image = _over_nifti(nibabel, voxels, volume.origin)
    else:
        image = nibabel.Nifti1Image(voxels, volume.affine)
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
        draft.write_bytes(gzip.compress(data, _GZIP_LEVEL, mtime=0) if path.suffix.lower() == ".gz" else data)


def _over_nifti(nibabel: Any, mask: NDArray[np.uint8], source: Any) -> Any:
    """A mask with the geometry of a source's header, both its forms as they are."""
    header = source.copy()
    header.set_data_shape(mask.shape)
    header.set_data_dtype(mask.dtype)
    header.set_slope_inter(1, 0)
    header["cal_min"] = 0
    kind = nibabel.Nifti2Image if isinstance(source, nibabel.Nifti2Header) else nibabel.Nifti1Image
    return kind(mask, header.get_best_affine(), header)


def write_overlays(overlays: Iterable[NDArray[np.uint8]], folder: Path, *, count: int) -> None:
    """Writes one picture a slice, of `count`; see `VolumeAnalysis.save_overlays`."""
    folder.mkdir(parents=True, exist_ok=True)
    digits = len(str(count - 1))
    for index, overlay in enumerate(overlays):
        write_png(folder / f"{index:0{digits}d}{OVERLAY_SUFFIX}.png", overlay)


def write_montage(tiles: Mapping[str, NDArray[np.uint8]], path: Path, *, columns: int) -> None:
    """Writes pictures of one size side by side, by the labels that they get; see `VolumeAnalysis.save_montage`."""
    columns = min(columns, len(tiles))
    height, width = next(iter(tiles.values())).shape[:2]
    scale = TILE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    canvas = np.zeros((ceil(len(tiles) / columns) * size[1], columns * size[0], 3), np.uint8)
    for place, (label, picture) in enumerate(tiles.items()):
        tile = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
        cv2.putText(tile, label, (6, size[1] - 8), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (255, 255, 255), 1, cv2.LINE_AA)
        top, left = place // columns * size[1], place % columns * size[0]
        canvas[top : top + size[1], left : left + size[0]] = tile
    write_png(path, canvas)


def write_csv(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Writes one line a row; see `VolumeAnalysis.save_csv`."""
    with replacing(path) as draft, draft.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_text(text: str, path: Path) -> None:
    """Writes text as UTF-8; a source's name that is none becomes an escape, which JSON has, too."""
    with replacing(path) as draft:
        draft.write_text(text, encoding="utf-8", errors="backslashreplace")

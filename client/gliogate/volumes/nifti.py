"""NIfTI files: reading one as a sequence."""

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final, Literal, cast

import numpy as np
from numpy.typing import NDArray

from gliogate.errors import ImageError
from gliogate.volumes.extras import require
from gliogate.volumes.layout import Layout, spacing_of
from gliogate.volumes.limits import check_shape, naming
from gliogate.volumes.volume import Series, to_finite_float32

EXTENSIONS: Final = (".nii", ".nii.gz")

SPACING_TOLERANCE: Final = 0.05
"""Up to which share the sform's spacings may differ from pixdim without being told."""

_GZIP: Final = b"\x1f\x8b"
_ORDERS: Final[tuple[Literal["little", "big"], ...]] = ("little", "big")
_HEADERS: Final = {348: "Nifti1Header", 540: "Nifti2Header"}
_SMALLEST_MM3, _LARGEST_MM3 = 1e-18, 1e18  # Of a voxel.
_IN_MM: Final = ("mm", "unknown")


def is_nifti(path: Path) -> bool:
    """Whether a file is called as NIfTI files are."""
    return path.name.lower().endswith(EXTENSIONS)


def read_nifti(path: Path) -> Series:
    """Reads a 3-D NIfTI file, or a 4-D one of a single volume.

    The header is held against the limits before any voxel is read; extensions of the header are left out.

    Raises:
        MissingExtraError: nibabel is not installed.
        ImageError: the file is broken, too large, in another unit than mm, or holds
            anything but one volume of finite real numbers.
    """
    nibabel = require("nibabel", extra="nifti")
    name = str(path)
    with naming(name):
        header = _read_header(path, nibabel)
        shape = _check_header(header, name)
        affine, told = _affine(header, name)
    with naming(name, "is damaged or cut short"):
        slope, inter = header.get_slope_inter()  # None where scl_slope is 0, NaN or infinite: no scaling.
        scaling = (1.0, 0.0) if slope is None else (slope, inter)
        spec = (shape, header.get_data_dtype(), header.get_data_offset(), *scaling)
        # What overflows is infinite, and told so.
        with np.errstate(over="ignore", invalid="ignore"), _opened(path) as file:
            voxels = np.asarray(nibabel.arrayproxy.ArrayProxy(file, spec))
    if voxels.dtype != np.uint8:
        voxels, filled = _fill_outside(voxels, name)
        told += filled
        voxels = to_finite_float32(voxels, name)
    i, j, k = (float(step) for step in spacing_of(affine))
    if int(header["sform_code"]) > 0 or int(header["qform_code"]) > 0:
        return Series(voxels, affine, (i, j, k), name, (path,), told, origin=header)
    has_unit = header.get_xyzt_units()[0] == "mm"  # Without one, pixdim is mostly what a program put there for want.
    unknown, zero = "orientation is", "sform_code and qform_code are 0"
    if not has_unit:
        unknown, zero = "spacing and orientation are", f"{zero}, xyzt_units is unknown"
    notes = (
        *told,
        f"{name}: {unknown} unknown: {zero}; slices are shown as if the axes ran left, front, up",
    )
    spacing = (i, j, k) if has_unit else None
    return Series(
        voxels, None, spacing, name, (path,), notes, assumed_layout=Layout.of(affine, voxels.shape), origin=header
    )


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """Opens a file, unpacked if its bytes are packed, whatever it is called."""
    with path.open("rb") as file:
        is_packed = file.read(len(_GZIP)) == _GZIP
        file.seek(0)
        if not is_packed:
            yield file
            return
        with gzip.open(file) as unpacked:
            yield cast("IO[bytes]", unpacked)


def _fill_outside(voxels: NDArray[Any], name: str) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Makes NaN around the head, as SPM writes it, the lowest value of all others."""
    corners = voxels[np.ix_(*((0, -1) for _ in voxels.shape))]
    if voxels.dtype.kind != "f" or not np.isnan(corners).any():
        return voxels, ()
    outside = np.isnan(voxels)
    if outside.all():
        return voxels, ()
    note = f"{name}: NaN around the head, {outside.mean():.1%} of the voxels, is taken for black"
    return np.where(outside, voxels[~outside].min(), voxels), (note,)


def _read_header(path: Path, nibabel: Any) -> Any:
    """Reads the header alone: nibabel's own way would also read extensions, however large they say they are."""
    with _opened(path) as file:
        block = file.read(max(_HEADERS))
    sizes = {order: int.from_bytes(block[:4], order) for order in _ORDERS}
    order = next((order for order, size in sizes.items() if size in _HEADERS), None)
    if order is None:
        raise ImageError(
            f"{path}: sizeof_hdr is {sizes['little']}, expected {' or '.join(map(str, _HEADERS))}: no NIfTI"
        )
    size = sizes[order]
    if len(block) < size:
        raise ImageError(f"{path}: has {len(block)} bytes, expected a header of {size}")
    header = getattr(nibabel, _HEADERS[size])(block[:size], endianness=order, check=False)
    magic = bytes(header["magic"].tobytes())[:3]
    if magic not in (b"n+1", b"n+2"):
        raise ImageError(f"{path}: magic is {magic!r}, expected n+1 or n+2 (header and voxels in one file)")
    return header


def _check_header(header: Any, name: str) -> tuple[int, int, int]:
    """Checks what the header says of the voxels, and returns their shape."""
    ndim = int(header["dim"][0])
    if not 3 <= ndim <= 7:
        raise ImageError(f"{name}: dim[0] is {ndim}, expected 3")
    lengths = [int(length) for length in header["dim"][1 : ndim + 1]]
    if any(length != 1 for length in lengths[3:]):
        raise ImageError(f"{name}: dim is {lengths}, expected one volume: give each volume as a file of its own")
    check_shape(lengths[:3], f"{name}: dim")
    kind = header.get_data_dtype().kind
    if kind not in "uif":
        raise ImageError(f"{name}: datatype is {header.get_value_label('datatype')}, expected integers or floats")
    unit = header.get_xyzt_units()[0]
    if unit not in _IN_MM:
        raise ImageError(f"{name}: xyzt_units is {unit}, expected mm")
    offset = float(header["vox_offset"])
    if not 0 <= offset < 2**31:
        raise ImageError(f"{name}: vox_offset is {offset}, expected that of the voxels")
    i, j, k = lengths[:3]
    return i, j, k


def _affine(header: Any, name: str) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """The affine, and what is to be known of it."""
    pixdim = header["pixdim"][1:4].astype(np.float64)
    if not (np.isfinite(pixdim) & (pixdim > 0)).all():
        raise ImageError(f"{name}: pixdim is {pixdim.tolist()}, expected spacings above 0 mm")
    field = "srow" if int(header["sform_code"]) > 0 else "qform"
    notes: tuple[str, ...] = ()
    affine = np.asarray(header.get_best_affine(), np.float64)
    if field == "srow" and int(header["qform_code"]) > 0 and not affine[:3].any():
        affine = np.asarray(header.get_qform(), np.float64)
        field, notes = "qform", (f"{name}: srow is 0, though sform_code is not: the qform is taken",)
    with np.errstate(all="ignore"):  # What overflows is infinite, and told so.
        volume = abs(np.linalg.det(affine[:3, :3])) if np.isfinite(affine).all() else np.nan
    if not _SMALLEST_MM3 < volume < _LARGEST_MM3:
        raise ImageError(f"{name}: {field} gives the affine {affine[:3].tolist()}, expected one that can be inverted")
    spacing = spacing_of(affine)
    if field == "srow" and (np.abs(spacing - pixdim) > SPACING_TOLERANCE * pixdim).any():
        said = " and pixdim ".join(" x ".join(f"{mm:.4g}" for mm in each) for each in (spacing, pixdim))
        notes = (f"{name}: srow says {said} mm from voxel to voxel: srow is taken, and millilitres may be wrong",)
    return affine, notes

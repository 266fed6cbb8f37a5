"""Whole files of every kind that readers of volumes take, and what they may do with broken ones."""

import io
import math
import warnings
import zipfile

import nibabel
import numpy as np
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless
from support.volume_files import RAS, axial_dicom_affine, make_head, make_instances, make_multiframe

from gliogate import ImageError
from gliogate.volumes import read_volume

HEAD, AFFINE = axial_dicom_affine()


def dicom(compression=None, *, frames: int = 1) -> bytes:
    instances = make_instances(HEAD, AFFINE)
    dataset = instances[0] if frames == 1 else make_multiframe(instances, list(range(frames)))
    if compression:
        dataset.compress(compression, generate_instance_uid=False)
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/1.dcm", dicom())
    return file.getvalue()


def npy() -> bytes:
    file = io.BytesIO()
    np.save(file, make_head())
    return file.getvalue()


WHOLE = {
    "plain.dcm": dicom(),
    "bare.dcm": dicom()[132:],  # Without preamble.
    "frames.dcm": dicom(frames=3),
    "rle.dcm": dicom(RLELossless),
    "j2k.dcm": dicom(JPEG2000Lossless),
    "jls.dcm": dicom(JPEGLSLossless),
    "study.zip": zipped(),
    "head.nii": nibabel.Nifti1Image(make_head(), RAS).to_bytes(),
    "head.npy": npy(),
}


def read_or_refuse(path, **options) -> None:
    """Reads a volume, or gets an error that names the file; anything else is a bug."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom tells what it finds odd; the error is ours to give.
            volume = read_volume(path, **options)
    except ImageError as error:
        message = str(error)
    else:
        assert volume.slices.dtype == np.uint8
        assert volume.slices.ndim == 4
        assert volume.affine is None or np.isfinite(volume.affine).all()
        assert volume.voxel_ml is None or 0 < volume.voxel_ml < math.inf
        return
    assert str(path) in message

"""Writing the mask of a volume as a DICOM segmentation."""

from collections.abc import Sequence
from copy import deepcopy
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gliogate.errors import ImageError
from gliogate.files import replacing
from gliogate.volumes.dicom import DicomOrigin
from gliogate.volumes.dicom_file import quiet_pydicom
from gliogate.volumes.extras import require
from gliogate.volumes.limits import naming
from gliogate.volumes.volume import Volume

REPEATED: Final = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
)
"""What highdicom takes from the source. DICOM lets all of it be empty (type 2), and anonymizers often leave it out."""

SERIES_NUMBER: Final = 9001
"""High enough to lie behind what a scanner makes."""


_LONG_STRING: Final = 64
"""How many characters a description of the series or the content may have (LO); one of a segment has 1024 (ST)."""

_UNICODE: Final = "ISO_IR 192"

LOOK: Final = "to be looked at"


def write_dicom_seg(
    mask: NDArray[np.uint8], volume: Volume, path: Path, *, facts: Sequence[str] = (), needs_look: bool = False
) -> None:
    """Writes a mask of a volume's slices as a binary segmentation; see `VolumeAnalysis.save_dicom_seg`.

    Args:
        mask: (N, H, W).
        volume: whose slices these are.
        path: of the file.
        facts: what is told of the mask, each in a few words.
        needs_look: whether somebody should look at it.
    """
    source = f"the source of the volume ({volume.source[0]})" if volume.source else "the source of the volume"
    if not isinstance(volume.origin, DicomOrigin):
        raise ImageError(f"{source} is not DICOM: a DICOM segmentation has to refer to DICOM instances")
    if volume.affine is None:
        raise ImageError(f"{source} does not say where its slices lie, see the volume's notes")
    if not mask.any():
        raise ImageError("the mask is empty: there is nothing to write as a DICOM segmentation")
    highdicom = require("highdicom", extra="dicom")
    # From (i, j, k) = (columns, rows, slices) to the frames as the source has them.
    frames = volume.to_grid(mask).transpose(2, 1, 0)
    if len(volume.origin.headers) == 1:
        frames = frames[np.argsort(volume.origin.frames)]
    with naming(source, "lacks what a DICOM segmentation repeats of it"), quiet_pydicom():
        headers = _completed(volume.origin.headers, volume.affine)
        told = "; ".join([*facts, *[LOOK] * needs_look])
        segmentation = _segmentation(highdicom, headers, np.ascontiguousarray(frames), told, needs_look=needs_look)
    with replacing(path) as draft:
        segmentation.save_as(draft)


def _completed(headers: Sequence[Any], affine: NDArray[np.float64]) -> list[Any]:
    """Copies of headers with what a segmentation asks for, and scanners and anonymizers leave out or write otherwise.

    The volume was read from them all the same: so what they lack follows from it, or may be anything.
    """
    from pydicom.uid import MRImageStorage, generate_uid

    completed = [deepcopy(header) for header in headers]
    first = completed[0]
    frame_of_reference = first.get("FrameOfReferenceUID") or generate_uid()
    for header in completed:
        # Text is decoded, and written in the one character set that has all of it.
        header.decode()
        header.SpecificCharacterSet = _UNICODE
        for keyword in REPEATED:
            if keyword not in header:
                setattr(header, keyword, None)
        header.FrameOfReferenceUID = frame_of_reference
        header.SOPClassUID = header.get("SOPClassUID") or MRImageStorage
        if header.get("SpacingBetweenSlices") is not None:  # Some write a direction into its sign.
            header.SpacingBetweenSlices = abs(header.SpacingBetweenSlices)
        if "ImageOrientationPatient" in header:  # They differ by what is within the reader's tolerance.
            header.ImageOrientationPatient = first.ImageOrientationPatient
        groups = header.get("SharedFunctionalGroupsSequence")
        if not groups:
            header.SliceThickness = header.get("SliceThickness") or float(np.linalg.norm(affine[:3, 2]))
            continue
        for keyword in ("PixelMeasuresSequence", "PlaneOrientationSequence"):
            # Some give each frame its own, all alike.
            if keyword not in groups[0]:
                setattr(groups[0], keyword, getattr(header.PerFrameFunctionalGroupsSequence[0], keyword))
    return completed


def _segmentation(highdicom: Any, headers: list[Any], frames: Any, told: str, *, needs_look: bool) -> Any:
    from pydicom.sr.codedict import codes

    release = version("gliogate")
    algorithm = highdicom.AlgorithmIdentificationSequence(
        name="gliogate", version=release, family=codes.DCM.ArtificialIntelligence
    )
    tumor = highdicom.seg.SegmentDescription(
        segment_number=1,
        segment_label="Tumor",
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=codes.SCT.Neoplasm,
        algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=algorithm,
        tracking_uid=highdicom.UID(),
        tracking_id="Tumor",
        anatomic_regions=[codes.SCT.Brain],
    )
    if told:
        tumor.SegmentDescription = told
    return highdicom.seg.Segmentation(
        source_images=headers,
        pixel_array=frames,
        segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[tumor],
        series_instance_uid=highdicom.UID(),
        series_number=SERIES_NUMBER,
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer="gliogate",
        manufacturer_model_name="gliogate",
        software_versions=release,
        device_serial_number="0",
        series_description=f"gliogate: tumor{f', {LOOK}' * needs_look} (research use only)",
        content_label="TUMOR",
        content_description=told[:_LONG_STRING] or None,
    )

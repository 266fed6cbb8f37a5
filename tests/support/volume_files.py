"""A head with known anatomy, and real files of it: DICOM in many guises, NIfTI, pictures."""

from pathlib import Path

import cv2
import nibabel
import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

from gliogate.results import Analysis

SHAPE = (40, 36, 8)
"""Voxels of the head from left to right, back to front, foot to head."""

SPACING = (0.9, 0.8, 5.0)

RAS = np.diag([*SPACING, 1.0])
RAS[:3, 3] = (-11.0, -12.5, 40.0)


def make_head() -> np.ndarray:
    """uint16 (40, 36, 8), RAS: noise on an ellipsoid, a bright nose in front, an ear on the right, a hat on top."""
    grid = np.stack(np.indices(SHAPE), -1)
    center, radius = (np.array(SHAPE) - 1) / 2, np.array(SHAPE) / 2
    inside = (((grid - center) / radius) ** 2).sum(-1) < 1
    head = np.where(inside, np.random.default_rng(0).integers(100, 400, SHAPE), 0).astype(np.uint16)
    head[10:14, -3:, 3:5] = 900
    head[-3:, 14:17, 3:5] = 700
    head[11:13, 14:16, -1] = 500
    return head


def make_tumor() -> np.ndarray:
    """uint8 (40, 36, 8), RAS: a box of 4 x 6 x 3 voxels, front, right and up."""
    mask = np.zeros(SHAPE, np.uint8)
    mask[15:19, 18:24, 4:7] = 1
    return mask


def to_axial(ras: np.ndarray) -> np.ndarray:
    """Slices as radiology shows them, (8, 36, 40), of an array in RAS: anterior up, right on the left."""
    return ras.transpose(2, 1, 0)[:, ::-1, ::-1]


def analyses_of(masks: np.ndarray) -> list[Analysis]:
    """What a server would say that found these masks, (N, H, W)."""
    return [
        Analysis(
            tumor_probability=0.9 if mask.any() else 0.1,
            detected=bool(mask.any()),
            segmented=bool(mask.any()),
            mask=np.ascontiguousarray(mask),
            mask_probability=None,
            picture=np.zeros((*mask.shape, 3), np.uint8),
            latency_s=0.01,
            request_id=f"{index}",
        )
        for index, mask in enumerate(masks)
    ]


def write_nifti(path: Path, voxels: np.ndarray, affine: np.ndarray | None = RAS) -> Path:
    image = nibabel.Nifti1Image(voxels, affine)
    if affine is not None:
        image.set_sform(affine, 1)
        image.header.set_xyzt_units("mm")
    nibabel.save(image, path)
    return path


def series_header(description: str = "AX T2 FLAIR", number: int = 1) -> dict:
    """What all instances of a series have in common."""
    return {
        "PatientName": "Phantom^Anna",
        "PatientID": "P1",
        "PatientBirthDate": "",
        "PatientSex": "O",
        "StudyInstanceUID": "1.2.826.0.1.3680043.8.498.1",
        "StudyDate": "20240101",
        "StudyTime": "120000",
        "StudyID": "1",
        "AccessionNumber": "",
        "ReferringPhysicianName": "",
        "FrameOfReferenceUID": "1.2.826.0.1.3680043.8.498.2",
        "PositionReferenceIndicator": "",
        "SeriesInstanceUID": generate_uid(entropy_srcs=[description, str(number)]),
        "SeriesNumber": number,
        "SeriesDescription": description,
        "Modality": "MR",
        "Manufacturer": "nobody",
        "ContentDate": "20240101",
        "ContentTime": "120000",
    }


def make_instances(head: np.ndarray, affine: np.ndarray = RAS, **header) -> list[FileDataset]:
    """One MR instance for each k of a grid (i, j, k) = (column, row, slice); the affine is to RAS, as in NIfTI."""
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    cosines = lps[:3, :3] / spacing
    instances = []
    for k in range(head.shape[2]):
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        meta.MediaStorageSOPClassUID = MRImageStorage
        dataset = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
        dataset.SOPClassUID = MRImageStorage
        for keyword, value in {**series_header(), **header}.items():
            setattr(dataset, keyword, value)
        dataset.SOPInstanceUID = generate_uid(entropy_srcs=[dataset.SeriesInstanceUID, str(k)])
        meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.InstanceNumber = k + 1
        dataset.ImagePositionPatient = [round(float(x), 6) for x in (lps @ [0, 0, k, 1])[:3]]
        dataset.ImageOrientationPatient = [round(float(x), 6) for x in (*cosines[:, 0], *cosines[:, 1])]
        dataset.PixelSpacing = [float(spacing[1]), float(spacing[0])]
        dataset.SliceThickness = float(spacing[2])
        set_pixels(dataset, np.ascontiguousarray(head[:, :, k].T))
        instances.append(dataset)
    return instances


def set_pixels(dataset: Dataset, pixels: np.ndarray) -> None:
    bits = pixels.dtype.itemsize * 8
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    dataset.BitsAllocated = dataset.BitsStored = bits
    dataset.HighBit = bits - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = dataset.get("PhotometricInterpretation", "MONOCHROME2")
    dataset.PixelData = pixels.tobytes()


def axial_dicom_affine() -> tuple[np.ndarray, np.ndarray]:
    """The head as a scanner stores axial slices, rows from the front and columns from the right; and its affine."""
    head = make_head()[::-1, ::-1]
    flip = np.diag([-1.0, -1.0, 1.0, 1.0])
    flip[:2, 3] = SHAPE[0] - 1, SHAPE[1] - 1
    return head, RAS @ flip


def write_dicom(folder: Path, instances: list[FileDataset], *, shuffle: bool = True) -> Path:
    """Writes instances under names that say nothing of their order."""
    folder.mkdir(parents=True, exist_ok=True)
    names = np.random.default_rng(1).permutation(len(instances)) if shuffle else range(len(instances))
    for name, dataset in zip(names, instances, strict=True):
        dataset.save_as(folder / f"{dataset.SeriesNumber}-{name:03d}", enforce_file_format=True)
    return folder


def make_multiframe(instances: list[FileDataset], order: list[int]) -> FileDataset:
    """An enhanced file of instances, its frames in any order."""
    first = instances[0]
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4.1"
    dataset = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    for keyword in series_header():
        setattr(dataset, keyword, first[keyword].value)
    dataset.SOPClassUID = meta.MediaStorageSOPClassUID
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["enhanced"])
    dataset.InstanceNumber = 1
    dataset.NumberOfFrames = len(order)
    shared, orientation, measures = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = first.ImageOrientationPatient
    measures.PixelSpacing, measures.SliceThickness = first.PixelSpacing, first.SliceThickness
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    dataset.SharedFunctionalGroupsSequence = [shared]
    dataset.PerFrameFunctionalGroupsSequence = []
    for index in order:
        frame, position, rescale = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = instances[index].ImagePositionPatient
        rescale.RescaleSlope, rescale.RescaleIntercept, rescale.RescaleType = 2, -5, "US"
        frame.PlanePositionSequence, frame.PixelValueTransformationSequence = [position], [rescale]
        dataset.PerFrameFunctionalGroupsSequence.append(frame)
    set_pixels(dataset, np.stack([instances[index].pixel_array for index in order]))
    return dataset


def write_kaggle(folder: Path, slices: np.ndarray, masks: np.ndarray) -> Path:
    """Writes slices (N, H, W, 3) and masks (N, H, W) as the Kaggle set has them, counted from 1."""
    folder.mkdir(parents=True)
    for number, (picture, mask) in enumerate(zip(slices, masks, strict=True), 1):
        cv2.imwrite(str(folder / f"{folder.name}_{number}.tif"), picture[..., ::-1])
        cv2.imwrite(str(folder / f"{folder.name}_{number}_mask.tif"), mask * 255)
    return folder

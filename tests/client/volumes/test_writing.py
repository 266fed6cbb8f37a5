"""What is written of a volume opens over its source in readers of other people: NIfTI, DICOM SEG, pictures, tables."""

import csv
import json
import os
import resource
import shutil
import subprocess
from copy import deepcopy
from dataclasses import replace

import cv2
import highdicom
import nibabel
import numpy as np
import pydicom
import pytest
from support.volume_files import (
    RAS,
    analyses_of,
    axial_dicom_affine,
    make_head,
    make_instances,
    make_multiframe,
    make_tumor,
    to_axial,
    write_dicom,
    write_nifti,
)

from gliogate import ImageError, Reliability
from gliogate.volumes import VolumeAnalysis, read_volume
from gliogate.volumes.segmentation import REPEATED, write_dicom_seg

HEAD, AFFINE = axial_dicom_affine()
TUMOR = to_axial(make_tumor())


@pytest.fixture
def found(tmp_path):
    return VolumeAnalysis.of(read_volume(write_nifti(tmp_path / "head.nii", make_head())), analyses_of(TUMOR))


def analyze_dicom(source):
    return VolumeAnalysis.of(read_volume(source), analyses_of(TUMOR))


def oblique() -> np.ndarray:
    a, b = np.radians((25, -14))
    turn = np.eye(4)
    turn[:3, :3] = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]]) @ np.array(
        [[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]]
    )
    return turn @ RAS


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("axes", ["RAS", "LPS", "PIR"])
def test_a_nifti_mask_opens_over_its_source(tmp_path, suffix, kind, axes):
    image = kind(make_head(), oblique())
    image.set_qform(RAS, 2)  # Another than the sform: both have to come back.
    image.set_sform(oblique(), 3)
    image.header.set_xyzt_units("mm", "sec")
    truth = nibabel.Nifti1Image(make_tumor(), oblique())
    turn = nibabel.orientations.ornt_transform(
        nibabel.orientations.axcodes2ornt("RAS"), nibabel.orientations.axcodes2ornt(tuple(axes))
    )
    image, truth = image.as_reoriented(turn), truth.as_reoriented(turn)
    nibabel.save(image, tmp_path / "head.nii.gz")
    found = VolumeAnalysis.of(read_volume(tmp_path / "head.nii.gz"), analyses_of(TUMOR))

    found.save_nifti(tmp_path / f"mask{suffix}")

    source, mask = nibabel.load(tmp_path / "head.nii.gz"), nibabel.load(tmp_path / f"mask{suffix}")
    assert type(mask) is kind
    assert mask.shape == source.shape
    assert mask.get_data_dtype() == np.uint8
    assert np.array_equal(mask.affine, source.affine)
    for field in ("qform_code", "sform_code", "pixdim", "quatern_b", "srow_x", "xyzt_units"):
        assert np.array_equal(mask.header[field], source.header[field])
    assert np.array_equal(np.asarray(mask.dataobj), np.asarray(truth.dataobj))


def test_a_nifti_mask_of_a_dicom_source_lies_where_the_patient_lay(tmp_path):
    found = analyze_dicom(write_dicom(tmp_path / "study", make_instances(HEAD, AFFINE)))

    found.save_nifti(tmp_path / "mask.nii.gz")

    mask = nibabel.load(tmp_path / "mask.nii.gz")
    assert np.allclose(mask.affine, AFFINE)
    assert mask.header.get_xyzt_units()[0] == "mm"
    assert (int(mask.header["sform_code"]), int(mask.header["qform_code"])) == (1, 1)
    canonical = nibabel.as_closest_canonical(mask)
    assert np.allclose(canonical.affine, RAS, atol=1e-4)
    assert np.array_equal(np.asarray(canonical.dataobj), make_tumor())


def test_a_nifti_mask_of_slices_has_no_orientation(tmp_path):
    found = VolumeAnalysis.of(read_volume(to_axial(make_head())), analyses_of(TUMOR))

    found.save_nifti(tmp_path / "mask.nii")

    mask = nibabel.load(tmp_path / "mask.nii")
    assert (int(mask.header["sform_code"]), int(mask.header["qform_code"])) == (0, 0)
    assert np.array_equal(np.asarray(mask.dataobj), TUMOR.transpose(2, 1, 0))


def read_segmentation(path, affine=RAS):
    """The mask of a DICOM segmentation, where its frames say that they lie: (40, 36, 8), RAS."""
    segmentation = highdicom.seg.segread(path)
    mask = np.zeros_like(make_tumor())
    pixels = segmentation.pixel_array.reshape(-1, *segmentation.pixel_array.shape[-2:])
    shared = segmentation.SharedFunctionalGroupsSequence[0]
    cosines = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient).reshape(2, 3)
    between_rows, between_columns = shared.PixelMeasuresSequence[0].PixelSpacing
    for frame, item in zip(pixels, segmentation.PerFrameFunctionalGroupsSequence, strict=True):
        origin = np.array(item.PlanePositionSequence[0].ImagePositionPatient, float)
        for row, column in np.argwhere(frame):
            lps = origin + cosines[0] * column * between_columns + cosines[1] * row * between_rows
            voxel = np.linalg.inv(affine) @ [-lps[0], -lps[1], lps[2], 1]
            mask[tuple(np.rint(voxel[:3]).astype(int))] = 1
    return segmentation, mask


def test_a_dicom_segmentation_refers_to_its_source(tmp_path):
    instances = make_instances(HEAD, AFFINE)

    analyze_dicom(write_dicom(tmp_path / "study", instances)).save_dicom_seg(tmp_path / "mask.dcm")

    segmentation, mask = read_segmentation(tmp_path / "mask.dcm")
    assert np.array_equal(mask, make_tumor())
    assert segmentation.NumberOfFrames == 3
    assert segmentation.PatientID == "P1"
    assert segmentation.StudyInstanceUID == instances[0].StudyInstanceUID
    [segment] = segmentation.SegmentSequence
    assert segment.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Neoplasm"
    assert segment.SegmentedPropertyTypeCodeSequence[0].CodeValue == "108369006"
    assert segment.SegmentAlgorithmType == "AUTOMATIC"
    referenced = [
        item.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        for item in segmentation.PerFrameFunctionalGroupsSequence
    ]
    assert sorted(referenced) == sorted(instance.SOPInstanceUID for instance in instances[4:7])


@pytest.mark.parametrize(
    ("certainty", "told", "series"),
    [
        (0.914, "certainty 0.91; 0.3 ml (0.2-0.3)", "gliogate: tumor (research use only)"),
        (
            0.5,
            "certainty 0.50; 0.3 ml (0.1-0.5); to be looked at",
            "gliogate: tumor, to be looked at (research use only)",
        ),
        (None, "0.3 ml", "gliogate: tumor (research use only)"),
    ],
)
def test_a_dicom_segmentation_tells_how_certain_it_is(tmp_path, certainty, told, series):
    worth = Reliability(limit=0.8, certain=(0.9, 1.1), uncertain=(0.5, 2.0)) if certainty else None
    analyses = [replace(each, certainty=certainty, reliability=worth) for each in analyses_of(TUMOR)]
    source = write_dicom(tmp_path / "study", make_instances(HEAD, AFFINE))

    VolumeAnalysis.of(read_volume(source), analyses).save_dicom_seg(tmp_path / "mask.dcm")

    dataset = pydicom.dcmread(tmp_path / "mask.dcm")
    assert dataset.SegmentSequence[0].SegmentDescription == told
    assert dataset.ContentDescription == told
    assert dataset.SeriesDescription == series


def test_what_a_dicom_segmentation_says_of_the_largest_mask_fits(tmp_path):
    source = read_volume(write_dicom(tmp_path / "study", make_instances(HEAD, AFFINE)))
    facts = ["certainty 0.50", "123456789.1 ml (123456789.1-123456789.1)"]

    write_dicom_seg(TUMOR, source, tmp_path / "mask.dcm", facts=facts, needs_look=True)

    dataset = pydicom.dcmread(tmp_path / "mask.dcm")
    assert dataset.SegmentSequence[0].SegmentDescription.endswith("; to be looked at")
    assert len(dataset.ContentDescription) <= 64
    assert len(dataset.SeriesDescription) <= 64


def test_a_dicom_segmentation_of_a_multi_frame_source(tmp_path):
    order = [3, 0, 7, 1, 6, 2, 5, 4]
    enhanced = make_multiframe(make_instances(HEAD, AFFINE), order)
    enhanced.save_as(tmp_path / "enhanced.dcm", enforce_file_format=True)

    analyze_dicom(tmp_path / "enhanced.dcm").save_dicom_seg(tmp_path / "mask.dcm")

    segmentation, mask = read_segmentation(tmp_path / "mask.dcm")
    assert np.array_equal(mask, make_tumor())
    for item in segmentation.PerFrameFunctionalGroupsSequence:
        source = item.DerivationImageSequence[0].SourceImageSequence[0]
        assert source.ReferencedSOPInstanceUID == enhanced.SOPInstanceUID
        assert order[int(source.ReferencedFrameNumber) - 1] in (4, 5, 6)


def named(character_sets, name):
    def edit(instance, _):
        instance.SpecificCharacterSet, instance.PatientName = character_sets, name

    return edit


def setting(**values):
    def edit(instance, _):
        for keyword, value in values.items():
            if value is None:
                delattr(instance, keyword)
            else:
                setattr(instance, keyword, value)

    return edit


def jitter(instance, number):
    x, y, z, *column = (float(each) for each in instance.ImageOrientationPatient)
    instance.ImageOrientationPatient = [x, y, z + 0.0005 * (number % 2), *column]


@pytest.mark.parametrize(
    "edit",
    [
        named(["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎"),
        named(["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
        named("ISO_IR 100", "Müller^Jürgen"),
        setting(SliceThickness=None),
        setting(FrameOfReferenceUID=""),
        setting(FrameOfReferenceUID=None),
        setting(SpacingBetweenSlices=-5),
        setting(SOPClassUID=None),
        jitter,
    ],
)
def test_a_dicom_segmentation_of_a_source_that_lacks_what_it_repeats(tmp_path, edit):
    instances = make_instances(HEAD, AFFINE)
    for number, instance in enumerate(instances):
        edit(instance, number)
    folder = write_dicom(tmp_path / "study", instances)

    analyze_dicom(folder).save_dicom_seg(tmp_path / "mask.dcm")

    segmentation, mask = read_segmentation(tmp_path / "mask.dcm")
    assert np.array_equal(mask, make_tumor())
    assert str(segmentation.PatientName) == str(instances[0].PatientName)
    assert_valid(tmp_path / "mask.dcm")


def assert_valid(path):
    """By David Clunie's dciodvfy, where it is installed."""
    if not shutil.which("dciodvfy"):
        return
    found = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False, errors="replace").stderr
    assert [line for line in found.splitlines() if line.startswith("Error")] == []


def test_a_dicom_segmentation_of_a_multi_frame_source_with_groups_of_each_frame(tmp_path):
    """As Siemens XA and Philips write them: the plane and the spacing stand in each frame."""
    enhanced = make_multiframe(make_instances(HEAD, AFFINE), list(range(8)))
    [shared] = enhanced.SharedFunctionalGroupsSequence
    for frame in enhanced.PerFrameFunctionalGroupsSequence:
        for keyword in ("PlaneOrientationSequence", "PixelMeasuresSequence"):
            setattr(frame, keyword, deepcopy(shared[keyword].value))
    del shared.PlaneOrientationSequence, shared.PixelMeasuresSequence
    enhanced.save_as(tmp_path / "enhanced.dcm", enforce_file_format=True)

    analyze_dicom(tmp_path / "enhanced.dcm").save_dicom_seg(tmp_path / "mask.dcm")

    assert np.array_equal(read_segmentation(tmp_path / "mask.dcm")[1], make_tumor())


def test_a_dicom_segmentation_of_slices_that_were_cut_anew(tmp_path):
    """An isotropic sagittal scan is analyzed in axial slices; its segmentation has the sagittal frames."""
    affine = np.array([[0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1.0]])
    sagittal = make_head()[:, ::-1, ::-1].transpose(1, 2, 0)

    analyze_dicom(write_dicom(tmp_path / "study", make_instances(sagittal, affine))).save_dicom_seg(tmp_path / "a.dcm")

    to_ras = np.eye(4)
    to_ras[:3, 3] = 0, -35, -7
    segmentation, mask = read_segmentation(tmp_path / "a.dcm", to_ras)
    assert segmentation.NumberOfFrames == 4
    assert np.array_equal(mask, make_tumor())


def test_a_dicom_segmentation_of_a_source_without_names(tmp_path):
    """An anonymizer took out all that DICOM lets be empty."""
    instances = make_instances(HEAD, AFFINE)
    for instance in instances:
        for keyword in (*REPEATED, "ReferringPhysicianName", "PositionReferenceIndicator"):
            del instance[keyword]
    found = analyze_dicom(write_dicom(tmp_path / "study", instances))

    found.save_dicom_seg(tmp_path / "mask.dcm")

    segmentation, mask = read_segmentation(tmp_path / "mask.dcm")
    assert np.array_equal(mask, make_tumor())
    assert not any(segmentation[keyword].value for keyword in REPEATED)
    assert segmentation.StudyInstanceUID == instances[0].StudyInstanceUID
    assert "PatientID" not in found.volume.origin.headers[0]


def test_a_source_whose_name_is_no_text_is_in_the_json(tmp_path):
    folder = tmp_path / os.fsdecode(b"gr\xfc\xdfe")
    folder.mkdir()
    volume = read_volume(write_nifti(folder / "head.nii", make_head()))

    VolumeAnalysis.of(volume, analyses_of(TUMOR)).save_json(tmp_path / "found.json")

    (source,) = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))["source"]
    assert os.fsencode(source) == os.fsencode(folder / "head.nii")


def test_what_cannot_be_a_dicom_segmentation_says_why(tmp_path, found):
    instances = make_instances(HEAD, AFFINE)
    folder = write_dicom(tmp_path / "study", instances)

    with pytest.raises(ImageError, match=r"head\.nii\) is not DICOM"):
        found.save_dicom_seg(tmp_path / "mask.dcm")
    empty = VolumeAnalysis.of(read_volume(folder), analyses_of(np.zeros_like(TUMOR)))
    with pytest.raises(ImageError, match="the mask is empty"):
        empty.save_dicom_seg(tmp_path / "mask.dcm")
    for instance in instances:
        del instance.StudyInstanceUID
    with pytest.raises(ImageError, match=r"lacks what .* repeats of it: .*StudyInstanceUID"):
        analyze_dicom(write_dicom(folder, instances)).save_dicom_seg(tmp_path / "mask.dcm")
    for instance in instances:
        del instance.ImagePositionPatient
        instance.InstanceNumber = 9 - instance.InstanceNumber
    with pytest.raises(ImageError, match="does not say where its slices lie, see the volume's notes"):
        analyze_dicom(write_dicom(folder, instances)).save_dicom_seg(tmp_path / "mask.dcm")
    assert not list(tmp_path.glob("*mask.dcm"))


def test_overlays_show_each_slice_with_its_mask(tmp_path, found):
    found.save_overlays(tmp_path / "overlays")

    files = sorted((tmp_path / "overlays").iterdir())
    assert [file.name for file in files] == [f"{number}_overlay.png" for number in range(8)]
    pictures = np.stack([cv2.imread(str(file)) for file in files])
    assert pictures.shape == found.volume.slices.shape
    colored = (pictures[..., 0] != pictures[..., 2]).any(axis=(1, 2))
    assert colored.tolist() == TUMOR.any(axis=(1, 2)).tolist()


def test_a_montage_shows_the_slice_with_the_most_tumor(tmp_path):
    masks = np.zeros((100, 20, 30), np.uint8)
    masks[53, 5:9, 5:9] = 1
    found = VolumeAnalysis.of(read_volume(np.zeros((100, 20, 30), np.uint8)), analyses_of(masks))

    found.save_montage(tmp_path / "montage.png", columns=4, rows=3)

    montage = cv2.imread(str(tmp_path / "montage.png"))
    assert montage.shape == (3 * 171, 4 * 256, 3)
    assert (montage[..., 0] != montage[..., 2]).any()
    found.save_montage(tmp_path / "montage.png", columns=40, rows=30)
    assert cv2.imread(str(tmp_path / "montage.png")).shape == (3 * 171, 40 * 256, 3)
    with pytest.raises(ValueError, match="0 columns and 5 rows, expected one at least"):
        found.save_montage(tmp_path / "montage.png", columns=0)


def test_csv_and_json(tmp_path, found):
    found.save_csv(tmp_path / "slices.csv")
    found.save_json(tmp_path / "found.json")

    with (tmp_path / "slices.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["area_px"] for row in rows] == ["0"] * 4 + ["24"] * 3 + ["0"]
    assert rows[4]["tumor_probability"] == "0.9"
    assert json.loads((tmp_path / "found.json").read_text())["slices"][4]["area_px"] == 24


@pytest.mark.parametrize(
    "save",
    ["save_nifti:mask.nii", "save_dicom_seg:mask.dcm", "save_montage:m.png", "save_csv:a.csv", "save_json:a.json"],
)
def test_a_full_disk_leaves_what_was_there(tmp_path, save):
    found = analyze_dicom(write_dicom(tmp_path / "study", make_instances(HEAD, AFFINE)))
    method, _, name = save.partition(":")
    path = tmp_path / name
    path.write_text("old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            getattr(found, method)(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert path.read_text() == "old"
    assert {file.name for file in tmp_path.iterdir()} == {"study", name}


def test_a_name_that_is_no_nifti_is_refused(tmp_path, found):
    with pytest.raises(ImageError, match=r"mask\.png: expected a name that ends in \.nii or \.nii\.gz"):
        found.save_nifti(tmp_path / "mask.png")


@pytest.mark.filterwarnings("ignore")
def test_a_segmentation_reads_with_pydicom_too(tmp_path):
    analyze_dicom(write_dicom(tmp_path / "study", make_instances(HEAD, AFFINE))).save_dicom_seg(tmp_path / "mask.dcm")

    dataset = pydicom.dcmread(tmp_path / "mask.dcm")
    assert dataset.Modality == "SEG"
    assert dataset.pixel_array.sum() == make_tumor().sum()

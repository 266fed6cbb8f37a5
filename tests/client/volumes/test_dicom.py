"""DICOM, however it is sorted, compressed, split and broken, becomes one volume or an error that names the file."""

import shutil
import zipfile

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless
from support.volume_files import (
    SHAPE,
    SPACING,
    axial_dicom_affine,
    make_head,
    make_instances,
    make_multiframe,
    series_header,
    set_pixels,
    to_axial,
    write_dicom,
    write_nifti,
)

from gliogate import ImageError, MissingExtraError
from gliogate.volumes import read_volume

HEAD, AFFINE = axial_dicom_affine()
AXIAL = to_axial(make_head())


def expected(values: np.ndarray) -> np.ndarray:
    """What slices look like whose values are these, as one volume."""
    values = values.astype(float)
    black, white = values.min(), np.percentile(values, 99.9)
    return np.rint(np.clip((values - black) / (white - black), 0, 1) * 255).astype(np.uint8)


@pytest.fixture
def instances():
    return make_instances(HEAD, AFFINE)


def test_slices_are_sorted_by_position_and_not_by_file_name(tmp_path, instances):
    volume = read_volume(write_dicom(tmp_path / "study", instances))

    assert np.array_equal(volume.slices[..., 1], expected(AXIAL))
    assert np.allclose(volume.affine, AFFINE)
    assert volume.spacing_mm == pytest.approx(SPACING)
    assert volume.plane == "axial"
    assert volume.sequences == ("FLAIR",)
    assert "FLAIR stands in for pre-contrast and post-contrast" in volume.notes[0]


@pytest.mark.parametrize("kind", ["zip", "stored", "file"])
def test_a_zip_and_a_single_file_are_read_like_a_folder(tmp_path, instances, kind):
    folder = write_dicom(tmp_path / "study", instances[:1] if kind == "file" else instances)
    (folder / "notes.txt").write_text("not a picture")
    if kind == "file":
        source = next(path for path in folder.iterdir() if path.suffix != ".txt")
    else:
        source = tmp_path / "study.zip"
        method = zipfile.ZIP_DEFLATED if kind == "zip" else zipfile.ZIP_STORED
        with zipfile.ZipFile(source, "w", method) as archive:
            for path in folder.iterdir():
                archive.write(path, f"export/{path.name}")

    volume = read_volume(source)

    slices = AXIAL[:1] if kind == "file" else AXIAL
    assert np.array_equal(volume.slices[..., 1], expected(slices))
    assert volume.spacing_mm == pytest.approx(SPACING)


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless])
def test_compressed_transfer_syntaxes(tmp_path, instances, syntax):
    for dataset in instances:
        dataset.compress(syntax, generate_instance_uid=False)

    assert np.array_equal(read_volume(write_dicom(tmp_path, instances)).slices[..., 1], expected(AXIAL))


@pytest.mark.parametrize(
    "name",
    [
        "MR_small_RLE.dcm",
        "MR_small_bigendian.dcm",
        "MR_small_expb.dcm",
        "MR_small_implicit.dcm",
        "MR_small_jp2klossless.dcm",
        "MR_small_jpeg_ls_lossless.dcm",
        "MR_small_padded.dcm",
    ],
)
def test_files_of_other_peoples_making_hold_the_same_picture(name):
    folder = pydicom.data.get_testdata_file("MR_small.dcm").removesuffix("MR_small.dcm")
    volumes = [read_volume(f"{folder}{one}") for one in ("MR_small.dcm", name)]

    assert volumes[0].slices.shape == (1, 64, 64, 3)
    assert volumes[0].slices.std() > 20
    assert np.array_equal(volumes[0].slices, volumes[1].slices)


@pytest.mark.parametrize("name", ["image_dfl.dcm", "JPEG2000.dcm", "examples_jpeg2k.dcm"])
def test_deflated_and_lossy_files_of_other_peoples_making(name):
    path = pydicom.data.get_testdata_file(name)

    if name == "examples_jpeg2k.dcm":
        with pytest.raises(ImageError, match="PhotometricInterpretation is YBR_RCT, expected MONOCHROME"):
            read_volume(path)
    else:
        assert read_volume(path).slices.std() > 1


def test_a_transfer_syntax_that_nobody_here_decodes_is_named():
    path = pydicom.data.get_testdata_file("JPEG-lossy.dcm")

    with pytest.raises(ImageError, match=r"PixelData cannot be decoded: .* 12-bit"):
        read_volume(path)


def test_monochrome1_is_turned_bright(tmp_path):
    inverted = make_instances(1000 - HEAD, AFFINE, PhotometricInterpretation="MONOCHROME1")

    volume = read_volume(write_dicom(tmp_path, inverted))

    assert np.array_equal(volume.slices[..., 1], expected(AXIAL))


def test_slope_and_intercept_of_each_slice_are_applied(tmp_path, instances):
    for k, dataset in enumerate(instances):
        dataset.RescaleSlope, dataset.RescaleIntercept = k + 1, 10 * k

    volume = read_volume(write_dicom(tmp_path, instances))

    k = np.arange(SHAPE[2])[:, None, None]
    assert np.array_equal(volume.slices[..., 1], expected(AXIAL * (k + 1.0) + 10 * k))


def test_8_bit_values_are_taken_as_they_are(tmp_path):
    dark = (HEAD // 8).astype(np.uint8)

    volume = read_volume(write_dicom(tmp_path, make_instances(dark, AFFINE)))

    assert np.array_equal(volume.slices[..., 1], AXIAL // 8)
    assert volume.ranges == ((0, 255),) * 3


@pytest.mark.parametrize(
    ("function", "black", "white"), [("", 100, 499), ("LINEAR", 100, 499), ("LINEAR_EXACT", 100, 500)]
)
def test_the_window_that_a_source_asks_for_scales_it_where_that_is_wanted(tmp_path, function, black, white):
    # A second window is an alternative to the first.
    header = {"WindowCenter": [300, 40], "WindowWidth": [400, 80], "VOILUTFunction": function}
    study = write_dicom(tmp_path, make_instances(HEAD, AFFINE, **header))

    volume = read_volume(study, window=True)

    assert volume.ranges[1] == (black, white)
    scaled = np.clip((AXIAL.astype(float) - black) / (white - black), 0, 1) * 255
    assert np.array_equal(volume.slices[..., 1], np.rint(scaled))
    assert read_volume(study).ranges[1] != (black, white)


def test_windows_that_differ_become_one_and_dark_is_dark_for_all(tmp_path):
    instances = make_instances((HEAD // 8).astype(np.uint8), AFFINE, PhotometricInterpretation="MONOCHROME1")
    for k, dataset in enumerate(instances):
        dataset.WindowCenter, dataset.WindowWidth = 30 + 10 * k, 40
        dataset.VOILUTFunction = "LINEAR_EXACT"

    assert read_volume(write_dicom(tmp_path, instances), window=True).ranges[1] == (-85, -45)


def test_the_window_of_a_multi_frame_file(tmp_path, instances):
    dataset = make_multiframe(instances, list(range(8)))
    display = Dataset()
    display.WindowCenter, display.WindowWidth = 300, 401
    dataset.SharedFunctionalGroupsSequence[0].FrameVOILUTSequence = [display]
    dataset.save_as(tmp_path / "enhanced.dcm", enforce_file_format=True)

    assert read_volume(tmp_path, window=True).ranges[1] == (99.5, 499.5)


@pytest.mark.parametrize(
    ("header", "told"),
    [
        ({}, "WindowCenter is missing, expected finite numbers"),
        ({"WindowCenter": 300}, "WindowWidth is missing"),
        ({"WindowCenter": 300, "WindowWidth": 0}, "WindowWidth is 0, expected a number above 0"),
        ({"WindowCenter": 1e300, "WindowWidth": 9}, r"WindowCenter is 1e\+300"),
        (
            {"WindowCenter": 3, "WindowWidth": 9, "VOILUTFunction": "SIGMOID"},
            "VOILUTFunction is SIGMOID, expected LINEAR",
        ),
    ],
)
def test_a_window_that_cannot_be_used_is_refused_only_where_it_is_wanted(tmp_path, header, told):
    study = write_dicom(tmp_path, make_instances(HEAD, AFFINE, **header))

    with pytest.raises(ImageError, match=told):
        read_volume(study, window=True)
    read_volume(study)


def test_only_dicom_has_a_window(tmp_path):
    with pytest.raises(ImageError, match="the array: window is what a DICOM source asks for"):
        read_volume(np.zeros((4, 5, 6)), window=True)
    for source in (write_nifti(tmp_path / "a.nii", HEAD), {"flair": tmp_path / "a.nii"}):
        with pytest.raises(ImageError, match=r"a\.nii: window is what a DICOM source asks for"):
            read_volume(source, window=True)


def test_padding_outside_of_the_picture_does_not_become_black(tmp_path):
    padded = HEAD.astype(np.int16)
    padded[:3] = -32000

    volume = read_volume(write_dicom(tmp_path, make_instances(padded, AFFINE, PixelPaddingValue=-32000)))

    assert volume.ranges[1][0] == 0


def test_a_range_of_padding_does_not_become_black_either(tmp_path):
    padded = HEAD.astype(np.int16)
    padded[:3], padded[0, 0, 3] = -2000, -1995
    instances = make_instances(padded, AFFINE, PixelPaddingValue=-2000)
    for dataset in instances:
        dataset.add_new("PixelPaddingRangeLimit", "SS", -1990)

    assert read_volume(write_dicom(tmp_path, instances)).ranges[1][0] == 0


def test_a_multi_frame_file_is_sorted_by_the_positions_of_its_frames(tmp_path, instances):
    order = [3, 0, 7, 1, 6, 2, 5, 4]
    path = tmp_path / "enhanced.dcm"
    make_multiframe(instances, order).save_as(path, enforce_file_format=True)

    volume = read_volume(path)

    assert np.array_equal(volume.slices[..., 1], expected(AXIAL * 2.0 - 5))
    assert np.allclose(volume.affine, AFFINE)


def three_series(post_affine=AFFINE):
    return [
        *make_instances(HEAD // 2, AFFINE, **series_header("AX T1", 2)),
        *make_instances(HEAD, AFFINE, **series_header("AX T2 FLAIR", 3)),
        *make_instances(HEAD[::-1] // 3, post_affine, **series_header("AX T1", 4), ContrastBolusAgent="Gadovist"),
        *make_instances(HEAD[:, :, :1], AFFINE, **series_header("LOCALIZER", 5)),
    ]


def test_three_series_become_the_three_channels(tmp_path):
    volume = read_volume(write_dicom(tmp_path, three_series()))

    assert volume.sequences == ("pre-contrast", "FLAIR", "post-contrast")
    for channel, values in enumerate([AXIAL // 2, AXIAL, AXIAL[:, :, ::-1] // 3]):
        assert np.array_equal(volume.slices[..., channel], expected(values))
    assert len(volume.notes) == 1
    assert "left out number 5, 'LOCALIZER', 1 slices" in volume.notes[0]


@pytest.mark.parametrize("choice", ["4", "uid", {"flair": "4"}])
def test_a_series_can_be_chosen_and_then_stands_for_all(tmp_path, choice):
    series = three_series()
    choice = series[16].SeriesInstanceUID if choice == "uid" else choice

    volume = read_volume(write_dicom(tmp_path, series), series=choice)

    assert volume.sequences == ("FLAIR",)
    assert np.array_equal(volume.slices[..., 0], expected(AXIAL[:, :, ::-1] // 3))


def test_three_folders_may_be_three_sequences(tmp_path):
    series = three_series()
    folders = {key: write_dicom(tmp_path / key, series[at : at + 8]) for key, at in (("pre", 0), ("flair", 8))}

    volume = read_volume(folders)

    assert volume.sequences == ("pre-contrast", "FLAIR")
    assert np.array_equal(volume.slices[..., 2], expected(AXIAL))


def test_series_that_do_not_say_what_they_are_have_to_be_chosen(tmp_path):
    mixed = [*make_instances(HEAD, AFFINE, **series_header("A", 1)), *make_instances(HEAD, **series_header("B", 2))]

    with pytest.raises(ImageError, match=r"no FLAIR recognised among number 1, 'A', 8 slices, .*choose with series="):
        read_volume(write_dicom(tmp_path, mixed))
    with pytest.raises(ImageError, match="0 series are called 'C', expected one of: number 1"):
        read_volume(tmp_path, series="C")


def test_a_single_series_that_is_known_not_to_be_flair_has_to_be_chosen(tmp_path):
    folder = write_dicom(tmp_path, make_instances(HEAD, AFFINE, **series_header("AX T1 POST", 7)))

    with pytest.raises(ImageError, match="no FLAIR recognised"):
        read_volume(folder)
    assert read_volume(folder, series="7").sequences == ("FLAIR",)


def test_a_series_on_another_grid_is_resampled_onto_that_of_flair(tmp_path):
    moved = AFFINE.copy()
    moved[:3, 3] += (0, 4, 0)

    volume = read_volume(write_dicom(tmp_path, three_series(moved)))

    assert volume.sequences == ("pre-contrast", "FLAIR", "post-contrast")
    assert any(
        "different geometry: corners are up to 4.0 mm apart: post-contrast was resampled" in note
        for note in volume.notes
    )


def test_a_series_of_another_frame_of_reference_and_grid_is_left_out(tmp_path):
    moved = AFFINE.copy()
    moved[:3, 3] += (0, 4, 0)
    instances = three_series(moved)
    for instance in instances:
        if instance.SeriesNumber == 4:
            instance.FrameOfReferenceUID = "1.2.3"

    volume = read_volume(write_dicom(tmp_path, instances))

    assert "post-contrast" not in volume.sequences
    assert any(
        "another FrameOfReferenceUID: post-contrast is left out, FLAIR stands in for it" in note
        for note in volume.notes
    )


def test_an_isotropic_sagittal_scan_is_cut_into_axial_slices(tmp_path):
    # Sagittal slices: columns from the front, rows from the top, slices from the left.
    head = make_head()
    affine = np.array([[0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1.0]])
    sagittal = head[:, ::-1, ::-1].transpose(1, 2, 0)

    volume = read_volume(write_dicom(tmp_path, make_instances(sagittal, affine)))

    assert volume.plane == "axial"
    assert np.array_equal(volume.slices[..., 1], expected(AXIAL))


def test_thick_sagittal_slices_are_taken_as_they_were_acquired(tmp_path):
    sagittal = make_head()[:, ::-1, ::-1].transpose(1, 2, 0)
    affine = np.array([[0, 0, 6, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1.0]])

    volume = read_volume(write_dicom(tmp_path, make_instances(sagittal, affine)))

    assert volume.plane == "sagittal"
    assert np.array_equal(volume.slices[..., 1], expected(sagittal.transpose(2, 1, 0)))


def test_an_oblique_scan_keeps_its_affine(tmp_path):
    a, b = np.radians((12, 20))
    turn = np.eye(4)
    turn[:3, :3] = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]]) @ np.array(
        [[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]]
    )

    volume = read_volume(write_dicom(tmp_path, make_instances(HEAD, turn @ AFFINE)))

    assert np.allclose(volume.affine, turn @ AFFINE, atol=1e-3)
    assert volume.plane == "axial"
    assert np.array_equal(volume.slices[..., 1], expected(AXIAL))


def test_without_positions_the_order_is_that_of_the_instances_and_the_spacing_unknown(tmp_path, instances):
    for dataset in instances:
        del dataset.ImagePositionPatient, dataset.PixelSpacing

    volume = read_volume(write_dicom(tmp_path, instances))

    assert volume.spacing_mm is None
    assert volume.affine is None
    assert "spacing and orientation are unknown: ImagePositionPatient" in volume.notes[1]
    assert np.array_equal(volume.slices[..., 1], expected(HEAD.transpose(2, 1, 0)))


def test_missing_spacing_is_unknown(tmp_path, instances):
    for dataset in instances:
        del dataset.PixelSpacing

    volume = read_volume(write_dicom(tmp_path, instances))

    assert volume.spacing_mm is volume.voxel_ml is None
    assert "PixelSpacing is missing" in volume.notes[1]


def test_a_single_slice_is_as_thick_as_it_says(tmp_path, instances):
    thin, unknown = instances[:2]
    del unknown.SliceThickness

    assert read_volume(write_dicom(tmp_path / "thin", [thin])).voxel_ml == pytest.approx(np.prod(SPACING) / 1000)
    assert read_volume(write_dicom(tmp_path / "unknown", [unknown])).voxel_ml is None


def test_sequences_without_positions_are_compared_by_their_shapes(tmp_path):
    series = three_series()[:16]
    for dataset in series:
        del dataset.ImagePositionPatient

    volume = read_volume(write_dicom(tmp_path, series))

    assert volume.sequences == ("pre-contrast", "FLAIR")
    assert "only their shapes were compared" in volume.notes[-1]


def edit(**values):
    def change(instances):
        for keyword, value in values.items():
            setattr(instances[3], keyword, value)

    return change


def move_slice(instances):
    instances[3].ImagePositionPatient = instances[2].ImagePositionPatient


def drop_slice(instances):
    del instances[3]


def shrink(instances):
    set_pixels(instances[3], instances[3].pixel_array[:-1])


def truncate(instances):
    instances[3].PixelData = instances[3].PixelData[:-200]


@pytest.mark.filterwarnings("ignore:Invalid value for VR:UserWarning")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (move_slice, "have the same ImagePositionPatient"),
        (drop_slice, r"uneven ImagePositionPatient: 10\.00 mm between .*: is a slice missing"),
        (shrink, r"Rows and Columns is \(36, 40\) in .*, but \(35, 40\) in"),
        (truncate, "NumberOfFrames 1, Rows 36, Columns 40 need 2880 bytes, but the file has|cannot be decoded"),
        (edit(PixelSpacing=[0.5, 0.5]), r"PixelSpacing is \[0\.8, 0\.9\] in .* but \[0\.5, 0\.5\]"),
        (edit(PixelSpacing=[float("nan"), 1]), "PixelSpacing is .*nan.*, expected 2 finite numbers"),
        (edit(PixelSpacing=[0, 1]), "PixelSpacing is .*, expected spacings above 1e-06 mm"),
        (edit(PixelSpacing=[1]), "PixelSpacing is 1.*, expected 2 finite numbers"),
        (
            edit(ImageOrientationPatient=[1, 0, 0, 0, 0, 1]),
            "is a slice missing.*left out of the series: .*, coronal', 1",
        ),
        (edit(ImageOrientationPatient=[1, 0, 0, 1, 0, 0]), "expected two unit vectors that are perpendicular"),
        (edit(ImagePositionPatient=None), "ImagePositionPatient is .* in .*, but missing"),
        (edit(RescaleSlope=0), "RescaleSlope is 0"),
        (edit(RescaleSlope=1e300), r"RescaleSlope is 1e\+300, expected 1 finite numbers up to 1e\+10"),
        (edit(ImagePositionPatient=[0, 0, 1e300]), "expected 3 finite numbers up to"),
        (edit(PixelSpacing=[1e-300, 1]), "PixelSpacing is .*, expected spacings above 1e-06 mm"),
        (edit(Rows=60000, Columns=60000), "Rows and Columns: 1 x 60000 x 60000 is too large|Rows and Columns is"),
        (edit(Rows=None), "Rows is missing, expected a whole number above 0"),
        (edit(Columns=None), "Columns is missing, expected a whole number above 0"),
        (edit(NumberOfFrames=2_000_000_000), "2000000007 frames, expected at most 4096"),
        (edit(NumberOfFrames=4000), "NumberOfFrames 4000, Rows 36, Columns 40 need 11520000 bytes"),
        (edit(NumberOfFrames=-1), "NumberOfFrames is -1"),
        (edit(BitsAllocated=7), "cannot be decoded"),
        (edit(PhotometricInterpretation="RGB", SamplesPerPixel=3), "PhotometricInterpretation is RGB"),
    ],
)
def test_a_file_that_contradicts_itself_or_others_is_named(tmp_path, instances, change, message):
    change(instances)
    folder = write_dicom(tmp_path / "study", instances)

    with pytest.raises(ImageError, match=message) as raised:
        read_volume(folder)
    assert str(folder) in str(raised.value)


def test_two_patients_are_not_one_head(tmp_path):
    flair = write_dicom(tmp_path / "A", make_instances(HEAD, AFFINE))
    t1 = write_dicom(tmp_path / "B", make_instances(HEAD, AFFINE, **series_header("AX T1", 2) | {"PatientID": "P2"}))

    for source in (tmp_path, {"flair": flair, "pre": t1}):
        with pytest.raises(ImageError, match="have different PatientID, 'P2' and 'P1': expected one patient"):
            read_volume(source)


def test_two_patients_are_not_one_series(tmp_path, instances):
    instances[3].PatientID, instances[4].PatientID = "P2", ""

    with pytest.raises(ImageError, match=r"PatientID is 'P[12]' in .*, 'P[12]' in .*: expected one patient"):
        read_volume(write_dicom(tmp_path, instances))


@pytest.mark.parametrize("field", ["StudyInstanceUID", "FrameOfReferenceUID"])
def test_series_of_different_studies_are_noted(tmp_path, field):
    write_dicom(tmp_path, make_instances(HEAD, AFFINE))
    t1 = write_dicom(tmp_path, make_instances(HEAD, AFFINE, **series_header("AX T1", 2) | {field: "1.2.3"}))

    assert any(f"have different {field}" in note for note in read_volume(t1).notes)


@pytest.mark.parametrize("description", ["ADC", "LOCALIZER"])
def test_what_is_derived_is_not_taken_for_flair_by_itself(tmp_path, description):
    folder = write_dicom(tmp_path, make_instances(HEAD, AFFINE, **series_header(description, 7)))

    with pytest.raises(ImageError, match=r"no FLAIR recognised among .*\(derived\): choose with series="):
        read_volume(folder)
    assert read_volume(folder, series="7").sequences == ("FLAIR",)


def test_a_single_series_that_does_not_say_what_it_is_is_noted(tmp_path):
    folder = write_dicom(tmp_path, make_instances(HEAD, AFFINE, **series_header("AX T2", 7)))

    assert "taken for FLAIR, for want of others" in read_volume(folder).notes[-1]
    assert len(read_volume(folder, series="7").notes) == 1


def test_a_series_is_a_name_and_no_number(tmp_path, instances):
    with pytest.raises(ImageError, match="series is 1, of type int, expected a UID, number or description as text"):
        read_volume(write_dicom(tmp_path, instances), series=1)


def test_an_instance_that_is_there_twice_counts_once(tmp_path, instances):
    folder = write_dicom(tmp_path, instances)
    shutil.copy(folder / "1-003", folder / "copy")
    instances[2].compress(RLELossless, generate_instance_uid=False)
    instances[2].save_as(folder / "compressed", enforce_file_format=True)

    volume = read_volume(folder)

    assert np.array_equal(volume.slices[..., 1], expected(AXIAL))
    assert volume.notes[-1].endswith("left out 2 copies of its instances")


def test_two_files_of_one_name_that_differ_are_not_chosen_between(tmp_path, instances):
    folder = write_dicom(tmp_path, instances)
    set_pixels(instances[2], instances[2].pixel_array + 1)
    instances[2].save_as(folder / "other", enforce_file_format=True)

    with pytest.raises(ImageError, match="have the same ImagePositionPatient"):
        read_volume(folder)


def cut_short(path):
    """Leaves the file its SeriesInstanceUID, but not its Rows."""
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"\x28\0\x10\0US")])


def test_a_broken_file_of_another_series_is_left_out(tmp_path, instances):
    other = write_dicom(tmp_path / "other", make_instances(HEAD, AFFINE, **series_header("AX T2", 2)))
    write_dicom(tmp_path, instances)
    for path in other.iterdir():
        cut_short(path)

    volume = read_volume(tmp_path)

    assert np.array_equal(volume.slices[..., 1], expected(AXIAL))
    assert "left out 8 broken files of other series, the first: " in volume.notes[-1]


def test_a_broken_file_that_is_or_may_be_a_slice_is_an_error(tmp_path, instances):
    folder = write_dicom(tmp_path / "first", instances, shuffle=False)
    cut_short(folder / "1-007")  # At the end: all others are evenly spaced.
    with pytest.raises(ImageError, match="1-007: "):
        read_volume(folder)

    for dataset in instances:
        dataset.ReferencedSeriesSequence = [Dataset()]
        dataset.ReferencedSeriesSequence[0].SeriesInstanceUID = "1.2.3"
    folder = write_dicom(tmp_path / "second", instances, shuffle=False)
    data = (folder / "1-007").read_bytes()
    (folder / "1-007").write_bytes(data[: data.index(b"\x20\0\x0d\0")])
    with pytest.raises(ImageError, match=r"1-007: .*it does not say of which series it is: remove it, if of another"):
        read_volume(folder)


def test_where_flair_may_be_what_is_broken_no_other_is_taken_for_it(tmp_path, instances):
    write_dicom(tmp_path, make_instances(HEAD, AFFINE, **series_header("AX T2", 2)))
    for path in write_dicom(tmp_path / "flair", instances).iterdir():
        cut_short(path)

    with pytest.raises(ImageError, match="flair/1-00"):
        read_volume(tmp_path)


def test_files_without_preamble_are_read_where_they_say_how_they_are_encoded(tmp_path, instances):
    for path in write_dicom(tmp_path / "study", instances).iterdir():
        path.write_bytes(path.read_bytes()[132:])

    assert np.array_equal(read_volume(tmp_path).slices[..., 1], expected(AXIAL))


def test_a_dataset_without_meta_information_is_told(tmp_path, instances):
    path = tmp_path / "study" / "bare"
    path.parent.mkdir()
    del instances[0].file_meta
    instances[0].preamble = None
    instances[0].save_as(path, implicit_vr=True, little_endian=True)

    for source in (path, path.parent):
        with pytest.raises(ImageError, match="bare: is DICOM without preamble and file meta information"):
            read_volume(source)


def test_a_codestream_larger_than_its_header_says_is_not_decoded(tmp_path):
    large = np.zeros((2000, 2000), np.uint16)
    for syntax in (JPEG2000Lossless, JPEGLSLossless):
        dataset = make_instances(HEAD, AFFINE)[0]
        set_pixels(dataset, large)
        dataset.compress(syntax, generate_instance_uid=False)
        dataset.Rows = dataset.Columns = 8
        path = tmp_path / f"{syntax.name}.dcm"
        dataset.save_as(path)

        with pytest.raises(ImageError, match="codestream of frame 1 says 2000 x 2000 x 1, but Rows and Columns 8 x 8"):
            read_volume(path)


def test_a_deflated_bomb_is_not_inflated(tmp_path, instances, monkeypatch):
    monkeypatch.setattr("gliogate.volumes.dicom_file.MAX_BYTES", 2**20)
    dataset = instances[0]
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    dataset.add_new((0x0009, 0x0010), "LO", "x")
    dataset.add_new((0x0009, 0x1001), "OB", b"\0" * 2**22)
    dataset.save_as(tmp_path / "bomb.dcm")

    with pytest.raises(ImageError, match="inflates to more than 1048576 bytes"):
        read_volume(tmp_path / "bomb.dcm")


@pytest.mark.parametrize("member", ["../outside", "/absolute", "a/../../b", "C:\\x", "..\\x"])
def test_a_zip_with_a_path_that_leaves_it_is_refused(tmp_path, instances, member):
    folder = write_dicom(tmp_path / "study", instances)
    with zipfile.ZipFile(tmp_path / "study.zip", "w") as archive:
        archive.writestr(zipfile.ZipInfo(member), next(folder.iterdir()).read_bytes())

    with pytest.raises(ImageError, match="leads out of the zip"):
        read_volume(tmp_path / "study.zip")


def test_a_zip_that_unpacks_to_too_much_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr("gliogate.volumes.entries.MAX_BYTES", 2**20)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.dcm", b"\0" * (2**20 + 1))

    with pytest.raises(ImageError, match="unpacks to 1048577 bytes, expected at most 1048576"):
        read_volume(tmp_path / "bomb.zip")


def test_a_zip_compressed_otherwise_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "study.zip", "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("a.dcm", b"\0" * 200)

    with pytest.raises(ImageError, match="compression 12, expected none or deflate"):
        read_volume(tmp_path / "study.zip")


def test_a_broken_zip_is_named(tmp_path, instances):
    folder = write_dicom(tmp_path / "study", instances)
    archive = shutil.make_archive(str(tmp_path / "study"), "zip", folder)
    data = bytearray((tmp_path / "study.zip").read_bytes())
    data[3000:4000] = bytes(1000)
    (tmp_path / "study.zip").write_bytes(data)

    with pytest.raises(ImageError, match=r"study\.zip"):
        read_volume(archive)


def test_a_missing_extra_is_named(tmp_path, instances, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pydicom", None)

    with pytest.raises(MissingExtraError, match=r"pydicom is not installed .*: pip install 'gliogate\[dicom\]'"):
        read_volume(write_dicom(tmp_path, instances))


def test_a_localizer_in_the_series_is_left_out_and_can_be_chosen(tmp_path, instances):
    localizer = make_instances(HEAD, AFFINE)[0]
    for instance in instances:
        instance.SeriesInstanceUID = localizer.SeriesInstanceUID
    localizer.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    folder = write_dicom(tmp_path / "study", [*instances, localizer])

    volume = read_volume(folder)
    other = read_volume(folder, series="AX T2 FLAIR, sagittal")

    assert np.array_equal(volume.slices[..., 1], expected(AXIAL))
    assert any("left out number 1, 'AX T2 FLAIR, sagittal', 1 slices" in note for note in volume.notes)
    assert len(other.slices) == 1
    assert other.plane == "sagittal"


def test_a_second_echo_in_the_series_is_left_out_and_can_be_chosen(tmp_path, instances):
    second = make_instances(HEAD, AFFINE)
    for instance, echo in [(each, 12.5) for each in instances] + [(each, 90.0) for each in second]:
        instance.SeriesInstanceUID, instance.EchoTime = second[0].SeriesInstanceUID, echo
    for instance in second:
        set_pixels(instance, instance.pixel_array // 2)
    folder = write_dicom(tmp_path / "study", [*second, *instances])

    volume = read_volume(folder)
    other = read_volume(folder, series="AX T2 FLAIR, echo time 90 ms")

    assert np.array_equal(volume.slices[..., 1], expected(AXIAL))
    assert any("'AX T2 FLAIR, echo time 90 ms'" in note for note in volume.notes)
    assert other.ranges[1][1] == pytest.approx(volume.ranges[1][1] / 2, abs=1)


def test_one_sagittal_slice_is_a_sagittal_slice(tmp_path, instances):
    [instance] = instances[:1]
    instance.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    instance.SliceThickness, instance.SpacingBetweenSlices = 0.9, 0.9

    volume = read_volume(write_dicom(tmp_path / "study", [instance]))

    assert volume.slices.shape[0] == 1
    assert volume.plane == "sagittal"
    assert any("slices are sagittal, but the networks know axial ones alone" in note for note in volume.notes)


def test_an_empty_file_among_slices_is_named(tmp_path, instances):
    folder = write_dicom(tmp_path / "study", instances)
    last = sorted(folder.iterdir())[-1]
    last.write_bytes(b"")

    with pytest.raises(ImageError, match=rf"{last.name}: is empty"):
        read_volume(folder)

    last.unlink()
    (folder / "notes.txt").write_bytes(b"")
    assert len(read_volume(folder).slices) == len(instances) - 1


@pytest.mark.parametrize("description", ["", "AX T2 FLAIR"])
def test_a_localizer_leaves_a_series_the_only_one(tmp_path, instances, description):
    """It is no candidate: neither for what cannot be told by its description, nor where a path has to be one series."""
    localizer = make_instances(HEAD, AFFINE)[0]
    localizer.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    for instance in (*instances, localizer):
        instance.SeriesInstanceUID, instance.SeriesDescription = localizer.SeriesInstanceUID, description
    folder = write_dicom(tmp_path / "study", [*instances, localizer])

    for source in (folder, {"flair": folder}):
        volume = read_volume(source)

        assert np.array_equal(volume.slices[..., 1], expected(AXIAL))
        assert any("left out" in note and "sagittal" in note for note in volume.notes)


def test_a_file_that_is_cut_short_to_less_than_a_header_is_named(tmp_path, instances):
    folder = tmp_path / "study"
    folder.mkdir()
    for number, instance in enumerate(instances):
        instance.save_as(folder / f"{number}.dcm", enforce_file_format=True)
    (folder / "7.dcm").write_bytes(bytes(64))
    (folder / "notes.txt").write_text("none of ours")

    with pytest.raises(
        ImageError, match=r"7\.dcm: is no DICOM, though it is called as such; .*remove it, if of another"
    ):
        read_volume(folder)

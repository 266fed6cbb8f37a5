"""NIfTI of any orientation looks the same and comes back to the same voxels, and a header that lies is named."""

import gzip
import itertools
import sys

import nibabel
import numpy as np
import pytest
from support.volume_files import RAS, SHAPE, SPACING, make_head, to_axial, write_nifti

from gliogate import ImageError, MissingExtraError
from gliogate.volumes import read_volume

HEAD = make_head()
AXIAL = to_axial(HEAD)

ORIENTATIONS = [
    "".join(codes) for order in itertools.permutations(("LR", "PA", "IS")) for codes in itertools.product(*order)
]


def reoriented(codes: str, voxels: np.ndarray = HEAD, affine: np.ndarray = RAS) -> tuple[np.ndarray, np.ndarray]:
    """The head with its axes in another order, told as the directions that they run to."""
    image = nibabel.Nifti1Image(voxels, affine)
    turn = nibabel.orientations.ornt_transform(
        nibabel.orientations.io_orientation(affine), nibabel.orientations.axcodes2ornt(tuple(codes))
    )
    turned = image.as_reoriented(turn)
    return np.asarray(turned.dataobj), turned.affine


@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_slices_look_the_same_however_the_axes_run(tmp_path, codes):
    reference = read_volume(write_nifti(tmp_path / "reference.nii", HEAD))

    volume = read_volume(write_nifti(tmp_path / "head.nii.gz", *reoriented(codes)))

    assert np.array_equal(volume.slices, reference.slices)
    assert np.allclose(volume.slices_affine, reference.slices_affine)
    assert volume.spacing_mm == pytest.approx(SPACING)
    assert volume.plane == "axial"


def test_the_nose_is_up_and_the_right_ear_on_the_left(tmp_path):
    slices = read_volume(write_nifti(tmp_path / "head.nii", HEAD)).slices[..., 1]

    assert slices.shape == (SHAPE[2], SHAPE[1], SHAPE[0])
    assert slices[3, 0].max() == 255
    assert slices[3, -1].max() < 150
    assert slices[3, :, 0].max() > slices[3, :, -1].max()
    assert slices[-1].max() > slices[0].max()


def test_slices_are_scaled_together(tmp_path):
    slices = read_volume(write_nifti(tmp_path / "head.nii", HEAD)).slices[..., 1]

    assert np.array_equal(slices, np.rint(np.clip(AXIAL / np.percentile(HEAD, 99.9), 0, 1) * 255).astype(np.uint8))


@pytest.mark.parametrize(
    ("spacing", "plane"), [((1, 1, 1), "axial"), ((1, 1, 5), "axial"), ((1, 5, 1), "coronal"), ((5, 1, 1), "sagittal")]
)
def test_slices_are_cut_across_the_widest_spacing_or_else_axially(tmp_path, spacing, plane):
    volume = read_volume(write_nifti(tmp_path / "head.nii", HEAD, np.diag([*spacing, 1.0])))

    assert volume.plane == plane
    assert any("the networks know axial ones alone" in note for note in volume.notes) == (plane != "axial")
    views = {
        "axial": AXIAL,
        "coronal": HEAD.transpose(1, 2, 0)[:, ::-1, ::-1],
        "sagittal": HEAD.transpose(0, 2, 1)[:, ::-1, ::-1],
    }
    assert volume.slices.shape[:3] == views[plane].shape
    brightest = np.unravel_index(views[plane].argmax(), views[plane].shape)
    assert volume.slices[(*brightest, 1)] == 255


@pytest.mark.parametrize("codes", ["RAS", "LPS", "ASR", "SRP"])
def test_an_array_on_the_slices_comes_back_to_the_same_voxels(tmp_path, codes):
    voxels, affine = reoriented(codes)
    volume = read_volume(write_nifti(tmp_path / "head.nii", voxels, affine))

    assert np.array_equal(volume.to_grid(AXIAL), voxels)
    with pytest.raises(ValueError, match=r"shape \(8, 36\), expected that of the slices, \(8, 36, 40\)"):
        volume.to_grid(AXIAL[..., 0])


def test_pixels_that_are_not_square_are_noted(tmp_path):
    volume = read_volume(write_nifti(tmp_path / "head.nii", HEAD, np.diag([1, 1.4, 2, 1])))

    assert volume.spacing_mm == pytest.approx((1, 1.4, 2))
    assert "pixels are 1 x 1.4 mm, but the networks know square ones" in volume.notes[1]


def test_slope_intercept_and_a_fourth_axis_of_one_are_read(tmp_path):
    image = nibabel.Nifti1Image(HEAD[..., None].astype(np.int16), RAS)
    image.header.set_slope_inter(0.5, -100)
    nibabel.save(image, tmp_path / "head.nii.gz")

    volume = read_volume(tmp_path / "head.nii.gz")

    assert np.array_equal(volume.slices[..., 1], read_volume(write_nifti(tmp_path / "b.nii", HEAD)).slices[..., 1])
    assert volume.ranges[1] == (-100, 0.5 * np.percentile(HEAD, 99.9) - 100)


def test_nifti_2_and_big_endian_are_read(tmp_path):
    nibabel.save(nibabel.Nifti2Image(HEAD, RAS), tmp_path / "two.nii")
    big = nibabel.Nifti1Image(HEAD, RAS, nibabel.Nifti1Header(endianness=">"))
    nibabel.save(big, tmp_path / "big.nii")

    for name in ("two.nii", "big.nii"):
        volume = read_volume(tmp_path / name)
        assert volume.slices[3, 0].max() == 255
        assert np.allclose(volume.affine, RAS)


@pytest.mark.parametrize("slope", [0, np.nan, np.inf, -np.inf])
def test_a_slope_that_means_no_scaling_is_none(tmp_path, slope):
    path = write_nifti(tmp_path / "head.nii", HEAD)
    patched(112, float32(slope, 7))(path)

    assert read_volume(path).ranges[1] == (0, np.percentile(HEAD, 99.9))


def test_without_an_orientation_it_is_unknown_and_slices_look_as_they_mostly_do(tmp_path):
    volume = read_volume(write_nifti(tmp_path / "head.nii", HEAD, None))

    assert volume.affine is volume.plane is volume.spacing_mm is volume.voxel_ml is None
    assert "spacing and orientation are unknown: sform_code and qform_code are 0, xyzt_units" in volume.notes[1]
    assert np.array_equal(volume.slices, read_volume(write_nifti(tmp_path / "b.nii", HEAD[::-1])).slices)


def test_without_an_orientation_a_spacing_in_mm_is_known(tmp_path):
    def write(name: str, spacing: tuple[float, float, float]):
        image = nibabel.Nifti1Image(HEAD, None)
        image.header.set_zooms(spacing)
        image.header.set_xyzt_units("mm")
        nibabel.save(image, tmp_path / name)
        return tmp_path / name

    flair = write("flair.nii", SPACING)
    volume = read_volume(flair)

    assert volume.spacing_mm == pytest.approx(SPACING)
    assert volume.voxel_ml == pytest.approx(np.prod(SPACING) / 1000)
    assert volume.affine is volume.plane is None
    assert "orientation is unknown: sform_code and qform_code are 0; slices are shown" in volume.notes[1]
    with pytest.raises(ImageError, match=r"different geometry: 4 x 0\.8 x 0\.9 and 5 x 0\.8 x 0\.9 mm along slices"):
        read_volume({"flair": flair, "pre": write("t1.nii", (0.9, 0.8, 4))})


def test_three_files_become_the_three_channels_whatever_their_orientation(tmp_path):
    volume = read_volume(
        {
            "pre": write_nifti(tmp_path / "a.nii", *reoriented("LPS", HEAD // 2)),
            "flair": write_nifti(tmp_path / "b.nii.gz", HEAD),
            "post": write_nifti(tmp_path / "c.nii", *reoriented("SAL", HEAD[::-1])),
        }
    )

    assert volume.sequences == ("pre-contrast", "FLAIR", "post-contrast")
    flair = volume.slices[..., 1]
    assert np.abs(volume.slices[..., 0].astype(int) - flair).max() <= 1
    assert np.array_equal(volume.slices[..., 2], flair[:, :, ::-1])


@pytest.mark.parametrize(
    "names",
    [
        ("BraTS_01_flair.nii.gz", "BraTS_01_t1.nii.gz", "BraTS_01_t1ce.nii.gz", "BraTS_01_t2.nii.gz"),
        ("BraTS-7-t2f.nii.gz", "BraTS-7-t1n.nii.gz", "BraTS-7-t1c.nii.gz", "BraTS-7-seg.nii.gz"),
        ("sub-01_FLAIR.nii", "sub-01_T1w.nii", "sub-01_ce-gadolinium_T1w.nii", "sub-01_T2w.nii"),
    ],
)
def test_a_folder_of_files_that_say_what_they_are(tmp_path, names):
    for index, name in enumerate(names):
        write_nifti(tmp_path / name, (HEAD * (index + 1)).astype(np.int32))

    volume = read_volume(tmp_path)

    assert volume.sequences == ("pre-contrast", "FLAIR", "post-contrast")
    whites = [white for _, white in volume.ranges]
    assert whites == pytest.approx([2 * whites[1], whites[1], 3 * whites[1]])
    assert volume.notes == (f"{tmp_path}: left out {names[3]}",)


def test_a_file_that_calls_itself_t1_is_not_taken_for_flair_by_itself(tmp_path):
    path = write_nifti(tmp_path / "sub-01_T1w.nii.gz", HEAD)

    with pytest.raises(ImageError, match=r"no FLAIR recognised among .*T1w\.nii\.gz \(pre\): say which is which"):
        read_volume(path)
    assert read_volume({"flair": path}).sequences == ("FLAIR",)


@pytest.mark.parametrize("name", ["pat_seg.nii.gz", "pat_mask.nii.gz", "adc.nii"])
def test_what_is_derived_from_a_scan_is_not_taken_for_flair_by_itself(tmp_path, name):
    path = write_nifti(tmp_path / name, HEAD)

    for source in (path, tmp_path):
        with pytest.raises(ImageError, match=r"no FLAIR recognised among .*\(derived\): say which is which"):
            read_volume(source)
    assert read_volume({"flair": path}).sequences == ("FLAIR",)


def test_a_single_file_that_does_not_say_what_it_is_is_noted(tmp_path):
    recognised = read_volume(write_nifti(tmp_path / "x_flair.nii", HEAD))
    other = read_volume(write_nifti(tmp_path / "x_t2.nii", HEAD))

    assert recognised.notes[1:] == ()
    assert other.notes[1:] == (f"{other.source[0]}: taken for FLAIR, for want of others; its name does not say so",)


@pytest.mark.parametrize(
    ("scan", "other", "noted"),
    [("x_flair", "x_flair_mask", 0), ("scan", "scan_mask", 1), ("x_flair", "x_flair_bet", 0)],
)
def test_what_lies_beside_a_scan_hides_neither_it_nor_its_name(tmp_path, scan, other, noted):
    path = write_nifti(tmp_path / f"{scan}.nii.gz", HEAD)
    write_nifti(tmp_path / f"{other}.nii.gz", HEAD)

    volume = read_volume(tmp_path)

    assert volume.source == (path,)
    assert volume.notes[-1] == f"{tmp_path}: left out {other}.nii.gz"
    assert len(volume.notes) == 2 + noted


def test_a_volume_says_what_each_channel_was_read_from(tmp_path):
    paths = [write_nifti(tmp_path / name, HEAD) for name in ("x_t1.nii", "x_flair.nii")]

    assert read_volume(tmp_path).to_dict()["series"] == list(map(str, paths))


def test_8_bit_voxels_are_taken_as_they_are(tmp_path):
    volume = read_volume(write_nifti(tmp_path / "head.nii.gz", (HEAD // 8).astype(np.uint8)))

    assert np.array_equal(volume.slices[..., 1], AXIAL // 8)
    assert volume.ranges == ((0, 255),) * 3


EIGHT_BITS = (HEAD // 8).astype(np.uint8)
"""Which are taken as they are: so sequences can be held against each other."""


def read_beside_flair(folder, voxels, affine):
    flair = write_nifti(folder / "flair.nii", EIGHT_BITS)
    return read_volume({"post": write_nifti(folder / "post.nii", voxels, affine), "flair": flair})


def test_a_file_of_another_grid_is_resampled_onto_that_of_flair(tmp_path):
    twice = RAS @ np.diag([0.5, 0.5, 1, 1])
    twice[:3, 3] -= (SPACING[0] / 4, SPACING[1] / 4, 0)

    volume = read_beside_flair(tmp_path, EIGHT_BITS.repeat(2, axis=0).repeat(2, axis=1), twice)

    assert np.array_equal(volume.slices[..., 2], volume.slices[..., 1])
    assert any(
        "(8, 72, 80) and (8, 36, 40) voxels along slices, rows and columns: post-contrast was resampled" in note
        for note in volume.notes
    )


@pytest.mark.parametrize("axes", ["RAS", "LPI", "PIR"])
def test_a_file_with_a_slice_less_is_where_its_affine_says(tmp_path, axes):
    above = RAS.copy()
    above[:3, 3] += RAS[:3, 2]

    volume = read_beside_flair(tmp_path, *reoriented(axes, EIGHT_BITS[..., 1:], above))

    assert np.array_equal(volume.slices[1:, ..., 2], volume.slices[1:, ..., 1])
    assert np.array_equal(volume.slices[0, ..., 2], volume.slices[1, ..., 1])


def test_a_file_that_lies_elsewhere_is_left_out(tmp_path):
    elsewhere = RAS.copy()
    elsewhere[:3, 3] += 400

    volume = read_beside_flair(tmp_path, EIGHT_BITS, elsewhere)

    assert volume.sequences == ("FLAIR",)
    assert np.array_equal(volume.slices[..., 2], volume.slices[..., 1])
    assert any("hardly overlap: post-contrast is left out" in note for note in volume.notes)


def patched(at: int, data: bytes):
    def change(path):
        content = bytearray(path.read_bytes())
        content[at : at + len(data)] = data
        path.write_bytes(content)

    return change


def int16(*values):
    return np.array(values, "<i2").tobytes()


def float32(*values):
    return np.array(values, "<f4").tobytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.write_bytes(b""), "sizeof_hdr is 0, expected 348 or 540: no NIfTI"),
        (lambda path: path.write_bytes(path.read_bytes()[:200]), "has 200 bytes, expected a header of 348"),
        (lambda path: path.write_bytes(path.read_bytes()[:2000]), "is damaged or cut short"),
        (patched(344, b"ni1\0"), r"magic is b'ni1', expected n\+1 or n\+2"),
        (patched(40, int16(3, 30000, 30000, 30000)), "dim: 30000 x 30000 x 30000 is too large, expected at most 4096"),
        (patched(40, int16(3, 4096, 4096, 4096)), "is too large"),
        (patched(40, int16(3, 0, 1, 1)), "expected at least one voxel along every axis"),
        (patched(40, int16(3, -1, 1, 1)), "expected at least one voxel along every axis"),
        (patched(40, int16(4, 40, 36, 2, 4)), r"dim is \[40, 36, 2, 4\], expected one volume"),
        (patched(40, int16(2)), r"dim\[0\] is 2, expected 3"),
        (patched(40, int16(300)), r"dim\[0\] is 300, expected 3"),
        (patched(70, int16(1792)), "datatype is complex128, expected integers or floats"),
        (patched(70, int16(77)), "77"),
        (patched(70, int16(128)), "datatype is RGB, expected integers or floats"),
        (patched(80, float32(float("nan"))), r"pixdim is \[nan, .*\], expected spacings above 0 mm"),
        (patched(80, float32(0)), r"pixdim is \[0\.0, .*\], expected spacings above 0 mm"),
        (patched(280, float32(float("nan"))), "srow gives the affine .* expected one that can be inverted"),
        (patched(280, float32(*[0] * 12)), "srow gives the affine .* expected one that can be inverted"),
        (patched(123, bytes([1])), "xyzt_units is meter, expected mm"),
        (patched(108, float32(float("inf"))), "vox_offset is inf"),
        (patched(108, float32(1e9)), "is damaged or cut short"),
        (patched(112, float32(1e38, 0)), r"voxels are NaN, infinite or beyond 1e\+30"),
    ],
)
def test_a_header_that_lies_is_named(tmp_path, change, message):
    path = write_nifti(tmp_path / "head.nii", HEAD.astype(np.int32))
    change(path)

    with pytest.raises(ImageError, match=message) as raised:
        read_volume(path)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("value", [np.nan, -np.inf, 1e31, -1e300])
def test_voxels_that_are_no_numbers_are_named(tmp_path, value):
    voxels = HEAD.astype(np.float64)
    voxels[3, 4, 5] = value

    with pytest.raises(ImageError, match=r"1 voxels are NaN, infinite or beyond 1e\+30, the first at \(3, 4, 5\)"):
        read_volume(write_nifti(tmp_path / "head.nii", voxels))


def test_a_gzip_that_is_cut_short_or_none_is_named(tmp_path):
    path = write_nifti(tmp_path / "head.nii.gz", HEAD)
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(ImageError, match=r"head\.nii\.gz: is damaged or cut short"):
        read_volume(path)

    path.write_bytes(b"no gzip at all")
    with pytest.raises(ImageError, match=r"head\.nii\.gz: sizeof_hdr is \d+, expected 348 or 540: no NIfTI"):
        read_volume(path)


def test_a_header_extension_is_left_unread(tmp_path):
    path = write_nifti(tmp_path / "head.nii", HEAD)
    content = bytearray(path.read_bytes())
    content[348:352] = b"\1\0\0\0"
    content[352:352] = np.array([2**31 - 16, 6], "<i4").tobytes() + b"\0" * 8
    content[108:112] = float32(368)
    path = tmp_path / "extended.nii.gz"
    path.write_bytes(gzip.compress(bytes(content)))

    assert read_volume(path).slices[3, 0].max() == 255


def test_a_missing_extra_is_named(tmp_path, monkeypatch):
    path = write_nifti(tmp_path / "head.nii", HEAD)
    monkeypatch.setitem(sys.modules, "nibabel", None)

    with pytest.raises(MissingExtraError, match=r"nibabel is not installed .*: pip install 'gliogate\[nifti\]'"):
        read_volume(path)


def test_nan_around_the_head_is_black(tmp_path):
    voxels = HEAD.astype(np.float32)
    voxels[0, 0], voxels[:, :, 0][[0, -1]] = np.nan, np.nan

    volume = read_volume(write_nifti(tmp_path / "head.nii", voxels))

    assert any("NaN around the head" in note for note in volume.notes)
    assert volume.ranges[1][0] == np.nanmin(voxels)


def _patched(path, offset, data):
    content = bytearray(path.read_bytes())
    content[offset : offset + len(data)] = data
    path.write_bytes(content)
    return path


def test_an_sform_of_zeros_yields_to_the_qform(tmp_path):
    image = nibabel.Nifti1Image(HEAD, RAS)
    image.set_qform(RAS, 1)
    nibabel.save(image, tmp_path / "head.nii")

    volume = read_volume(_patched(tmp_path / "head.nii", 280, bytes(48)))

    assert np.allclose(volume.affine, RAS, atol=1e-4)
    assert any("srow is 0, though sform_code is not" in note for note in volume.notes)


def test_an_sform_that_pixdim_contradicts_is_told(tmp_path):
    steps = np.array([[-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 1, 0]], "<f4").tobytes()

    volume = read_volume(_patched(write_nifti(tmp_path / "head.nii", HEAD), 280, steps))

    assert volume.spacing_mm == (1, 1, 1)
    assert any("srow says 1 x 1 x 1 and pixdim" in note for note in volume.notes)


@pytest.mark.parametrize("name", ["head.nii", "head.nii.gz"])
def test_what_is_packed_is_told_by_its_bytes(tmp_path, name):
    plain = write_nifti(tmp_path / "plain.nii", HEAD)
    (tmp_path / name).write_bytes(plain.read_bytes() if name.endswith("gz") else gzip.compress(plain.read_bytes()))

    assert np.array_equal(read_volume(tmp_path / name).slices, read_volume(plain).slices)

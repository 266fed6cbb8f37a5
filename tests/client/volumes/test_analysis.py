"""What is measured of a volume: millilitres, millimetres and components, and what stays unknown."""

import json
from dataclasses import replace

import numpy as np
import pytest
import scipy.ndimage
from support.volume_files import RAS, SPACING, analyses_of, make_head, make_tumor, to_axial, write_nifti

from gliogate import ImageError, Reliability
from gliogate.volumes import VolumeAnalysis, read_volume
from gliogate.volumes.analysis import ONE_BY_ONE
from gliogate.volumes.components import feret_diameter, label_components

TUMOR = to_axial(make_tumor())
VOXEL_ML = np.prod(SPACING) / 1000


@pytest.fixture
def volume(tmp_path):
    return read_volume(write_nifti(tmp_path / "head.nii", make_head()))


@pytest.fixture
def unknown():
    """A volume of the same slices whose spacing nobody knows."""
    return read_volume(to_axial(make_head()))


def with_speck():
    mask = TUMOR.copy()
    mask[1, 5:7, 5] = 1
    return mask


def test_a_tumor_is_measured_in_millilitres_and_millimetres(volume):
    found = VolumeAnalysis.of(volume, analyses_of(TUMOR))

    assert (found.verdict, found.detected, found.tumor) == ("tumor", True, True)
    assert found.tumor_volume_ml == pytest.approx(4 * 6 * 3 * VOXEL_ML)
    [component] = found.components
    assert component.voxels == 4 * 6 * 3
    assert component.volume_ml == pytest.approx(found.tumor_volume_ml)
    assert (component.first_slice, component.last_slice) == (4, 6)
    assert component.centroid_mm == pytest.approx((RAS @ [16.5, 20.5, 5, 1])[:3])
    # 4 pixels of 0.9 mm wide and 6 of 0.8 mm high: from the middle of an upper edge to that of a lower.
    assert found.largest_diameter_mm == pytest.approx(np.hypot(3 * 0.9, 6 * 0.8))
    assert found.probabilities.tolist() == [0.1] * 4 + [0.9] * 3 + [0.1]


def test_the_mask_lies_on_the_slices_and_goes_back_onto_the_grid(volume):
    found = VolumeAnalysis.of(volume, analyses_of(TUMOR))

    assert found.mask.dtype == np.uint8
    assert np.array_equal(found.mask, TUMOR)
    assert np.array_equal(volume.to_grid(found.mask), make_tumor())


def test_components_are_listed_by_size_and_specks_can_be_dropped(volume):
    both = VolumeAnalysis.of(volume, analyses_of(with_speck()))
    large = VolumeAnalysis.of(volume, analyses_of(with_speck()), min_component_ml=0.01)

    assert [component.voxels for component in both.components] == [72, 2]
    assert [component.voxels for component in large.components] == [72]
    assert np.array_equal(both.mask, with_speck())
    assert np.array_equal(large.mask, TUMOR)
    assert VolumeAnalysis.of(volume, analyses_of(TUMOR), min_component_ml=1).components == ()
    assert VolumeAnalysis.of(volume, analyses_of(TUMOR), min_component_ml=72 * volume.voxel_ml).mask.any()


def test_without_spacing_millilitres_and_millimetres_are_unknown(unknown):
    found = VolumeAnalysis.of(unknown, analyses_of(with_speck()))

    assert found.tumor_volume_ml is found.largest_diameter_mm is None
    assert found.components[0].voxels == 72
    assert found.components[0].volume_ml is found.components[0].diameter_mm is found.components[0].centroid_mm is None
    with pytest.raises(ImageError, match=r"min_component_ml needs the spacing, but it is unknown: .* are unknown"):
        VolumeAnalysis.of(unknown, analyses_of(TUMOR), min_component_ml=0.1)


def test_nothing_found_is_zero(volume):
    found = VolumeAnalysis.of(volume, analyses_of(np.zeros_like(TUMOR)))

    assert (found.verdict, found.detected, found.tumor) == ("no tumor", False, False)
    assert found.components == ()
    assert found.tumor_volume_ml == found.largest_diameter_mm == 0


def test_what_was_detected_and_not_outlined_is_suspicious(volume):
    analyses = analyses_of(np.zeros_like(TUMOR))
    analyses[3] = replace(analyses[3], detected=True, segmented=True)

    found = VolumeAnalysis.of(volume, analyses)

    assert (found.verdict, found.detected, found.tumor) == ("suspicious", True, False)
    assert found.to_dict()["verdict"] == "suspicious"
    assert [row["verdict"] for row in found.table()] == [*["no tumor"] * 3, "suspicious", *["no tumor"] * 4]


def test_a_tumor_of_specks_that_were_dropped_is_suspicious(volume):
    found = VolumeAnalysis.of(volume, analyses_of(TUMOR), min_component_ml=1)

    assert (found.verdict, found.tumor) == ("suspicious", False)
    assert [row["verdict"] for row in found.table()] == [*["no tumor"] * 4, *["suspicious"] * 3, "no tumor"]


def test_what_was_outlined_where_nothing_was_detected_makes_no_tumor(volume):
    analyses = [replace(analysis, detected=index == 0) for index, analysis in enumerate(analyses_of(TUMOR))]

    assert VolumeAnalysis.of(volume, analyses).verdict == "suspicious"


def test_without_a_threshold_a_volume_is_undecided(volume):
    analyses = [replace(analysis, detected=None) for analysis in analyses_of(TUMOR)]

    found = VolumeAnalysis.of(volume, analyses)

    assert (found.verdict, found.detected, found.tumor) == ("undecided", None, None)


WORTH = Reliability(limit=0.8, certain=(0.9, 1.1), uncertain=(0.5, 2.0))


def sure_of(masks, certainties, reliability=WORTH):
    """Analyses of masks whose slices are as certain as that; of empty ones, as a server has it, of nothing."""
    pairs = zip(analyses_of(masks), certainties, strict=True)
    return [
        replace(each, certainty=certainty if each.mask.any() else None, reliability=reliability)
        for each, certainty in pairs
    ]


def test_the_certainty_of_a_volume_is_the_mean_of_its_voxels(volume):
    found = VolumeAnalysis.of(volume, sure_of(with_speck(), [0.0, 0.5, 0, 0, 0.9, 0.95, 1.0, 0]))

    assert found.certainty == pytest.approx((2 * 0.5 + 24 * (0.9 + 0.95 + 1.0)) / 74)
    assert found.needs_look is False
    assert found.tumor_volume_interval_ml == pytest.approx((0.9 * 74 * VOXEL_ML, 1.1 * 74 * VOXEL_ML))
    record = found.to_dict()
    assert record["certainty"] == found.certainty
    assert record["needs_look"] is False
    assert record["tumor_volume_interval_ml"] == list(found.tumor_volume_interval_ml)
    assert [row["certainty"] for row in found.table()] == [None, 0.5, None, None, 0.9, 0.95, 1.0, None]
    # Of a volume that is certain, one slice need not be.
    assert [row["needs_look"] for row in found.table()] == [False, True, *[False] * 6]


def test_a_volume_that_is_not_certain_is_to_be_looked_at(volume):
    found = VolumeAnalysis.of(volume, sure_of(TUMOR, [0.7] * 8))

    assert found.needs_look is True
    assert found.tumor_volume_interval_ml == pytest.approx((0.5 * 72 * VOXEL_ML, 2 * 72 * VOXEL_ML))


def test_components_that_were_dropped_count_as_if_they_were_not(volume):
    certainties = [0.0, 0.1, 0, 0, 0.9, 0.9, 0.9, 0]
    small = VolumeAnalysis.of(volume, sure_of(with_speck(), certainties), min_component_ml=0.01)
    none = VolumeAnalysis.of(volume, sure_of(with_speck(), certainties), min_component_ml=1)

    assert small.certainty == pytest.approx(0.9)
    assert small.table()[1]["certainty"] is None
    assert small.table()[1]["needs_look"] is True  # It is suspicious now.
    assert none.certainty is none.tumor_volume_interval_ml is None
    assert (none.verdict, none.needs_look) == ("suspicious", True)
    assert not any(row["certainty"] for row in none.table())


def test_a_clear_volume_need_not_be_looked_at(volume):
    found = VolumeAnalysis.of(volume, sure_of(np.zeros_like(TUMOR), [0.0] * 8))

    assert (found.certainty, found.needs_look, found.tumor_volume_interval_ml) == (None, False, None)


def test_what_the_server_does_not_say_is_unknown(volume, unknown):
    silent = VolumeAnalysis.of(volume, analyses_of(TUMOR))
    without_worth = VolumeAnalysis.of(volume, sure_of(TUMOR, [0.9] * 8, reliability=None))
    partly = sure_of(TUMOR, [0.9] * 8)
    partly[5] = replace(partly[5], certainty=None)  # Another server's, of a version before.

    assert silent.certainty is silent.needs_look is silent.tumor_volume_interval_ml is silent.reliability is None
    assert without_worth.certainty == pytest.approx(0.9)
    assert without_worth.needs_look is without_worth.tumor_volume_interval_ml is None
    assert VolumeAnalysis.of(volume, partly).certainty is VolumeAnalysis.of(volume, partly).needs_look is None
    of_unknown_size = VolumeAnalysis.of(unknown, sure_of(TUMOR, [0.9] * 8))
    assert of_unknown_size.certainty == pytest.approx(0.9)
    assert of_unknown_size.tumor_volume_interval_ml is None


def test_slices_that_were_judged_by_themselves_are_told_of(volume):
    alone = analyses_of(TUMOR)
    together = [replace(analysis, among_neighbours=True) for analysis in alone]

    assert ONE_BY_ONE in VolumeAnalysis.of(volume, alone).notes
    assert ONE_BY_ONE in VolumeAnalysis.of(volume, [*together[:-1], alone[-1]]).to_dict()["notes"]
    assert VolumeAnalysis.of(volume, together).notes == volume.notes


def test_analyses_of_other_slices_are_refused(volume):
    with pytest.raises(ValueError, match="7 analyses, expected 8: one for each slice"):
        VolumeAnalysis.of(volume, analyses_of(TUMOR[1:]))
    with pytest.raises(ValueError, match=r"slice 0: a mask of shape \(36, 39\), expected \(36, 40\)"):
        VolumeAnalysis.of(volume, analyses_of(TUMOR[:, :, 1:]))
    with pytest.raises(ValueError, match="min_component_ml is nan, expected 0 or more"):
        VolumeAnalysis.of(volume, analyses_of(TUMOR), min_component_ml=float("nan"))


def test_to_json_holds_all_but_the_pixels(volume):
    record = json.loads(VolumeAnalysis.of(volume, analyses_of(TUMOR)).to_json())

    assert (record["verdict"], record["tumor"]) == ("tumor", True)
    assert record["sequences"] == ["FLAIR"]
    assert record["spacing_mm"] == pytest.approx(SPACING)
    assert record["tumor_volume_ml"] == pytest.approx(72 * VOXEL_ML)
    assert record["components"][0]["voxels"] == 72
    assert record["slices"][4] == {
        "slice": 4,
        "verdict": "tumor",
        "tumor_probability": 0.9,
        "tumor": True,
        "segmented": True,
        "certainty": None,
        "needs_look": None,
        "area_px": 24,
        "area_mm2": pytest.approx(24 * 0.9 * 0.8),
    }
    assert "FLAIR stands in" in record["notes"][0]


@pytest.mark.parametrize("density", [0.05, 0.15, 0.3, 0.6])
def test_components_are_those_of_scipy(density):
    mask = (np.random.default_rng(5).random((9, 31, 23)) < density).astype(np.uint8)

    labels, count = label_components(mask)

    theirs, their_count = scipy.ndimage.label(mask, np.ones((3, 3, 3)))
    assert count == their_count
    assert np.array_equal(labels > 0, mask > 0)
    assert len(set(zip(labels.ravel().tolist(), theirs.ravel().tolist(), strict=True))) == count + 1
    sizes = np.bincount(labels.ravel())[1:]
    assert (np.diff(sizes) <= 0).all()


def test_a_row_of_pixels_is_as_long_as_they_are():
    row = np.array([(7, column) for column in range(3, 13)])

    assert feret_diameter(row, (0.5, 2.0)) == pytest.approx(20)
    assert feret_diameter(row[:, ::-1], (0.5, 2.0)) == pytest.approx(5, rel=0.1)
    assert feret_diameter(row[:1], (0.5, 2.0)) == pytest.approx(2)


def test_a_disk_is_as_wide_as_its_diameter():
    rows, columns = np.indices((201, 201)) - 100
    disk = np.argwhere(rows**2 + columns**2 <= 80**2)

    assert feret_diameter(disk, (0.5, 0.5)) == pytest.approx(80, rel=0.01)

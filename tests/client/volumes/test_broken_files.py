"""Files that chance has broken: every one is read, or refused with an error that names it."""

import gzip
import io
import math
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from support.broken_files import AFFINE, HEAD, WHOLE, read_or_refuse
from support.volume_files import make_instances

from gliogate import ImageError
from gliogate.volumes import read_volume

CORPUS = Path(__file__).parent / "corpus"

chance = settings(
    derandomize=True, max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


# Most of a file is voxels, in which nothing can be wrong: what breaks is mostly near the front.
places = st.one_of(st.integers(0, 2500), st.integers(0, 20_000))
wrong = st.one_of(st.binary(min_size=1, max_size=8), st.sampled_from([b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff"]))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", WHOLE)
@chance
@given(patches=st.lists(st.tuples(places, wrong), max_size=4), end=st.one_of(st.none(), st.integers(0, 4000)))
@example(patches=[], end=None)
@example(patches=[(WHOLE["plain.dcm"].index(b"\2\0\2\0UI") + 5, b"\0")], end=None)
def test_bytes_that_were_changed_or_cut(tmp_path, name, patches, end):
    data = bytearray(WHOLE[name])
    for place, patch in patches:
        place %= len(data)
        data[place : place + len(patch)] = patch
    path = tmp_path / name
    path.write_bytes(data[:end])

    read_or_refuse(path)


@pytest.mark.filterwarnings("ignore")
@chance
@given(place=st.integers(0, 400), patch=wrong)
def test_a_compressed_nifti_with_a_changed_header(tmp_path, place, patch):
    data = bytearray(WHOLE["head.nii"])
    data[place : place + len(patch)] = patch
    path = tmp_path / "head.nii.gz"
    path.write_bytes(gzip.compress(bytes(data), 1))

    read_or_refuse(path)


NUMBERS = st.one_of(
    st.integers(-(2**31), 2**31 - 1), st.floats(), st.sampled_from([0, 1, -1, math.nan, math.inf, 1e300, 2**31 - 1])
)
VALUES = st.one_of(
    st.none(), st.just(""), NUMBERS, st.lists(NUMBERS, max_size=7), st.text("0123456789.eE+-\\ax", max_size=9)
)
KEYWORDS = """
    BitsAllocated BitsStored Columns HighBit ImageOrientationPatient ImagePositionPatient InstanceNumber
    NumberOfFrames PatientID PhotometricInterpretation PixelPaddingRangeLimit PixelPaddingValue PixelRepresentation
    PixelSpacing RescaleIntercept RescaleSlope Rows SamplesPerPixel SeriesInstanceUID SeriesNumber SliceThickness
    SpacingBetweenSlices VOILUTFunction WindowCenter WindowWidth
""".split()  # noqa: SIM905  a list of twenty would take a page


@pytest.mark.filterwarnings("ignore")
@chance
@given(changes=st.dictionaries(st.sampled_from(KEYWORDS), VALUES, min_size=1, max_size=3), all_of_them=st.booleans())
@example(changes={"PixelPaddingValue": [0, 0]}, all_of_them=False)
def test_dicom_fields_that_hold_anything(tmp_path, changes, all_of_them):
    for index, dataset in enumerate(make_instances(HEAD[:, :, :3], AFFINE, WindowCenter=300, WindowWidth=400)):
        try:
            for keyword, value in changes.items() if all_of_them or index == 1 else ():
                setattr(dataset, keyword, value)
            file = io.BytesIO()
            dataset.save_as(file, enforce_file_format=True)
        except Exception:  # What pydicom refuses to write, nobody has to read.
            assume(False)
        (tmp_path / f"{index}.dcm").write_bytes(file.getvalue())

    read_or_refuse(tmp_path)
    read_or_refuse(tmp_path, window=True)


@pytest.mark.filterwarnings("ignore")
def test_a_number_that_is_a_broken_sequence_is_named(tmp_path):
    broken_item = b"\x28\0\x10\0US\3\0abc"
    item = b"\xfe\xff\0\xe0" + len(broken_item).to_bytes(4, "little") + broken_item
    sequence = b"\x28\0\0\1SQ\0\0" + len(item).to_bytes(4, "little") + item
    bits_allocated = b"\x28\0\0\1US\2\0\x10\0"
    path = tmp_path / "a.dcm"
    path.write_bytes(WHOLE["plain.dcm"].replace(bits_allocated, sequence))

    with pytest.raises(ImageError, match=r"a\.dcm: BitsAllocated cannot be read"):
        read_volume(path)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("group", [b"\0\x52\x29\x92", b"\0\x52\x30\x92"])
@pytest.mark.parametrize("vr", [b"UN", b"UT", b"OW", b"OB"])
def test_functional_groups_of_another_type_are_refused_or_do_without(tmp_path, group, vr):
    path = tmp_path / "a.dcm"
    path.write_bytes(WHOLE["frames.dcm"].replace(group + b"SQ", group + vr))

    read_or_refuse(path)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", sorted(CORPUS.glob("*")), ids=lambda path: path.name)
def test_files_that_a_fuzzer_found(path):
    """Those of `python -m tests.fuzz_readers`: each took the readers another way, broke them, or kept them long."""
    begun_s = time.process_time()

    read_or_refuse(path)

    assert time.process_time() - begun_s < 5

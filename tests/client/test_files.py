"""Files that are either there whole or not at all."""

import pytest

from gliogate.files import replacing


@pytest.mark.parametrize("stem", ["x" * 240, "頭" * 80])
def test_a_name_that_just_fits_can_be_written(tmp_path, stem):
    path = tmp_path / f"{stem}_overlay.png"
    with replacing(path) as draft:
        draft.write_text("whole")

    assert path.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_names_the_file_and_not_its_draft(tmp_path):
    path = tmp_path / "gone" / "a.csv"
    with pytest.raises(FileNotFoundError) as caught, replacing(path) as draft:
        draft.write_text("whole")

    assert caught.value.filename == str(path)


def test_what_was_there_stays_where_writing_fails(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("before")
    with pytest.raises(TypeError), replacing(path) as draft, draft.open("w") as file:
        file.write(b"no text")

    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]

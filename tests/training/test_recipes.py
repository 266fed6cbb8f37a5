"""Every recipe, with the networks that it really has, trains, is evaluated, and is exported as Triton then serves it.

Two steps of each; that the networks of each learn from more is in docs/training.md.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import keras
import pytest
from support.courses import export, few_slices, small, train

from training.metadata import newest_metadata
from training.recipes import find, names

# A minute or two each where nothing else runs.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Training sets the precision of this process; the tests after it get theirs back."""
    before = keras.mixed_precision.dtype_policy()
    few_slices(monkeypatch)
    yield
    keras.mixed_precision.set_dtype_policy(before)


@pytest.mark.parametrize("name", names())
def test_it_trains_is_evaluated_and_exported_as_served(
    name: str, kaggle: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    repository, run = tmp_path / "repository", tmp_path / "run"

    assert train(run, kaggle, *small(name)) == 0
    assert json.loads((run / "summary.json").read_text())["slices"] > 0
    assert caplog.text.count("starts from nothing") == len(find(name).pretrainable)
    # What is exported was held against what Triton answers, or this would fail.
    assert export(run, kaggle, repository) == 0
    assert newest_metadata(repository)[1]["recipe"]["name"] == name

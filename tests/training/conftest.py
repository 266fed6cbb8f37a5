"""A dataset in the Kaggle layout, of phantoms, with the trap of the real one, and what makes a training short."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import keras
import pytest
import tensorflow as tf
from support.courses import few_slices
from support.thin_networks import use_thin_networks

from gliogate.phantom import make_phantoms

PATIENTS = ("TCGA_CS_0001", "TCGA_DU_0002", "TCGA_DU_0003", "TCGA_FG_0004", "TCGA_HT_0005")
SLICES = 12


@pytest.fixture(scope="session")
def kaggle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five patients of twelve slices, half of them with tumor; the CSV names the first patient in every row."""
    root = tmp_path_factory.mktemp("kaggle")
    rows = ["patient_id,image_path,mask_path,mask"]
    for index, patient in enumerate(PATIENTS):
        case = f"{patient}_20000101"
        (root / case).mkdir()
        for number, phantom in enumerate(make_phantoms(SLICES, prevalence=0.5, seed=20 + index), start=1):
            image, mask = (f"{case}/{case}_{number}{suffix}.tif" for suffix in ("", "_mask"))
            cv2.imwrite(str(root / image), cv2.cvtColor(phantom.image, cv2.COLOR_RGB2BGR))
            cv2.imwrite(str(root / mask), phantom.mask * 255)
            rows.append(f"{PATIENTS[0]}_20000101,{image},{mask},{int(phantom.tumor)}")
    (root / "data_mask.csv").write_text("\n".join(rows) + "\n")
    return root


@pytest.fixture(scope="module")
def precision_as_it_was() -> Iterator[None]:
    """Training sets the precision of this process; the tests after it get theirs back."""
    before = keras.mixed_precision.dtype_policy()
    yield
    keras.mixed_precision.set_dtype_policy(before)


@pytest.fixture(scope="module")
def thin_networks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Networks of few channels, of which Triton is asked about few slices."""
    request.getfixturevalue("precision_as_it_was")
    with pytest.MonkeyPatch.context() as patch:
        few_slices(patch)
        use_thin_networks(patch)
        yield


@pytest.fixture
def step_by_step() -> Iterator[None]:
    """TensorFlow does what it is told without tracing it into a graph first, which takes longer than a few steps."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)

"""Which model repository is served when none is named, what is said of it, and what is refused before Triton starts."""

import shutil

import pytest

from gliogate.embedded import EmbeddedServer, find_model_repository
from gliogate.embedded.repository import describe
from gliogate.errors import EmbeddedServerError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("folder")
def test_a_checkout_serves_its_own():
    assert describe(find_model_repository()).startswith("the checkout's, version ")
    assert "for CPUs and as fp32, gpu, gpu_share: " in describe(find_model_repository())


def test_the_one_of_the_current_folder_comes_first(folder, tiny_repository):
    shutil.copytree(tiny_repository, folder / "model_repository")

    assert find_model_repository() == folder / "model_repository"
    assert describe(find_model_repository()).startswith("the current folder's, version 1, for CPUs and as fp32: ")


def test_a_folder_of_that_name_with_the_models_of_others_is_passed_over(folder):
    (folder / "model_repository" / "resnet50").mkdir(parents=True)
    (folder / "model_repository" / "resnet50" / "config.pbtxt").write_text('backend: "onnxruntime"')

    assert describe(find_model_repository()).startswith("the checkout's")


def test_one_that_lacks_a_model_is_refused_and_not_passed_over(folder, tiny_repository):
    shutil.copytree(tiny_repository, folder / "model_repository")
    shutil.rmtree(folder / "model_repository" / "brain_tumor")

    found = find_model_repository()

    assert found == folder / "model_repository"
    with pytest.raises(EmbeddedServerError, match=r"model_repository lacks brain_tumor/config\.pbtxt"):
        EmbeddedServer(found).start()


@pytest.mark.usefixtures("folder")
def test_one_that_is_named_is_taken(tiny_repository):
    assert find_model_repository(tiny_repository) == tiny_repository
    assert describe(tiny_repository).startswith("named, version 1, ")


def test_a_name_of_no_folder_is_told(folder):
    with pytest.raises(EmbeddedServerError, match=r"no model repository: .*/nowhere is not a folder"):
        find_model_repository(folder / "nowhere")

"""Which of its networks' two files a processor is served."""

import shutil

import pytest
from tritonclient.grpc import InferenceServerClient

from gliogate import processor
from gliogate.embedded import EmbeddedServer
from gliogate.embedded.precision import IN_32_BITS, suitable_config
from gliogate.errors import EmbeddedServerError


@pytest.mark.parametrize(
    ("features", "config"),
    [({"avx2"}, IN_32_BITS), (set(), IN_32_BITS), ({"avx2", "avx_vnni"}, ""), ({"avx512f", "avx512_vnni"}, "")],
)
def test_8_bits_are_for_processors_that_have_instructions_for_them(monkeypatch, features, config):
    monkeypatch.setattr(processor, "features", lambda: frozenset(features))

    assert suitable_config() == config


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("", "model_cpu.onnx"),
        (IN_32_BITS, "model.onnx"),
        (None, "model.onnx" if suitable_config() else "model_cpu.onnx"),
    ],
    ids=["their own", "32 bits", "suitable"],
)
def test_the_chosen_configuration_is_served(tiny_repository, name, file):
    with (
        EmbeddedServer(tiny_repository, model_config_name=name) as server,
        InferenceServerClient(server.url) as triton,
    ):
        assert triton.get_model_config("tumor_detector").config.default_model_filename == file


def test_a_configuration_that_no_model_has_is_named(tiny_repository):
    with pytest.raises(EmbeddedServerError, match=r"no model in .* has configs/fp23\.pbtxt; there are fp32$"):
        EmbeddedServer(tiny_repository, model_config_name="fp23").start()


def test_a_repository_without_32_bits_is_served_as_it_is(tiny_repository, tmp_path, monkeypatch):
    monkeypatch.setattr(processor, "features", frozenset)
    older = shutil.copytree(tiny_repository, tmp_path / "older", ignore=shutil.ignore_patterns("configs"))

    with EmbeddedServer(older) as server, InferenceServerClient(server.url) as triton:
        assert triton.get_model_config("tumor_detector").config.default_model_filename == "model_cpu.onnx"

"""Which of its networks' two files a processor is served."""

import pytest
from tritonclient.grpc import InferenceServerClient

from gliogate import processor
from gliogate.embedded import EmbeddedServer
from gliogate.embedded.precision import IN_32_BITS, suitable_config


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
        ("none of them has this", "model_cpu.onnx"),
        (None, "model.onnx" if suitable_config() else "model_cpu.onnx"),
    ],
    ids=["their own", "32 bits", "unknown", "suitable"],
)
def test_the_chosen_configuration_is_served(tiny_repository, name, file):
    with (
        EmbeddedServer(tiny_repository, model_config_name=name) as server,
        InferenceServerClient(server.url) as triton,
    ):
        assert triton.get_model_config("tumor_detector").config.default_model_filename == file

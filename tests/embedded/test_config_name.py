"""Which of a model's configurations is served."""

import pytest
from tritonclient.grpc import InferenceServerClient

from gliogate.embedded import EmbeddedServer
from gliogate.errors import EmbeddedServerError


@pytest.mark.parametrize(("name", "file"), [("", "model_cpu.onnx"), ("fp32", "model.onnx")], ids=["8 bits", "32 bits"])
def test_the_chosen_configuration_is_served(tiny_repository, name, file):
    with (
        EmbeddedServer(tiny_repository, model_config_name=name) as server,
        InferenceServerClient(server.url) as triton,
    ):
        assert triton.get_model_config("tumor_detector").config.default_model_filename == file


def test_a_configuration_that_no_model_has_is_named(tiny_repository):
    with pytest.raises(EmbeddedServerError, match=r"no model in .* has configs/fp23\.pbtxt; there are fp32$"):
        EmbeddedServer(tiny_repository, model_config_name="fp23").start()

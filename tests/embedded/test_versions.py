"""A Triton that loads and unloads models by itself is left alone."""

import shutil
import time

from support.signals import models_of
from support.tiny_networks import slices
from support.waiting import wait_for
from tritonclient.grpc import InferenceServerClient

from gliogate import Client
from gliogate.contract import DETECTOR
from gliogate.embedded import EmbeddedServer

EXPLICIT = ("--model-control-mode=explicit", "--load-model=*")


def test_a_model_that_is_unloaded_and_loaded_is_no_reason_to_start_again(tiny_repository, tmp_path):
    repository = shutil.copytree(tiny_repository, tmp_path / "models")
    events = []
    with (
        EmbeddedServer(repository, restart=True, on_event=events.append, triton_arguments=EXPLICIT) as server,
        InferenceServerClient(server.triton_url) as triton,
        Client(server.url) as client,
    ):
        before = models_of(server)
        for _ in range(3):
            triton.unload_model(DETECTOR.name)
            wait_for(lambda: not triton.is_model_ready(DETECTOR.name))
            triton.load_model(DETECTOR.name)
            wait_for(lambda: triton.is_model_ready(DETECTOR.name))
        assert models_of(server) != before
        time.sleep(1)
        assert client.detect(slices(0.75)[0]).detected
        server.check()
    assert events == []

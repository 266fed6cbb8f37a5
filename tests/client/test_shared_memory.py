"""Shared memory where no healthy Triton on this machine is asked for it."""

import grpc
import numpy as np
import pytest
from support.troubled_triton import TroubledTriton
from tritonclient.grpc import service_pb2

from gliogate import Client, Retries, ServerUnavailableError, SharedMemoryError

SLICE = np.zeros((256, 256, 3), np.uint8)


@pytest.mark.parametrize("url", ["dns:///localhost:8001", ["127.0.0.1:8001", "127.0.0.1:8002"]])
def test_several_servers_are_refused(url):
    with pytest.raises(ValueError, match=r"shared_memory=True is for one server, on this machine; .* may be several"):
        Client(url, shared_memory=True)


def test_a_server_that_is_away_is_told_as_without_shared_memory():
    with Client("127.0.0.1:9", shared_memory=True) as client, pytest.raises(ServerUnavailableError, match="no Triton"):
        client.analyze(SLICE)


def test_a_server_that_knows_no_shared_memory_is_named(triton):
    with (
        Client(triton.url, shared_memory=True) as client,
        pytest.raises(SharedMemoryError, match=rf"the server at {triton.url} cannot read") as caught,
    ):
        client.analyze(SLICE, request_id="study-7")

    assert (caught.value.status, caught.value.request_id) == ("UNIMPLEMENTED", "study-7")
    assert not triton.requests


def test_what_is_registered_with_one_server_and_asked_of_another_is_sent_twice_and_told_of(triton_of, monkeypatch):
    for method, response in (
        ("Register", service_pb2.SystemSharedMemoryRegisterResponse()),
        ("Status", service_pb2.SystemSharedMemoryStatusResponse()),
    ):
        monkeypatch.setattr(TroubledTriton, f"SystemSharedMemory{method}", lambda *_, it=response: it, raising=False)
    triton = triton_of()
    triton.status, triton.failures = grpc.StatusCode.NOT_FOUND, 1000

    with (
        Client(triton.url, shared_memory=True, retries=Retries(attempts=1)) as client,
        pytest.raises(SharedMemoryError, match="does not know what was registered with it: are there several behind"),
    ):
        client.analyze(SLICE)

    names = [request.inputs[0].parameters["shared_memory_region"].string_param for request in triton.requests]
    assert len(names) == len(set(names)) == 2

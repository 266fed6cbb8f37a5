"""Real servers, started once: one on the shipped model repository, one on networks whose answers are known."""

import os
import signal

import pytest
from support.tiny_networks import build_repository

from gliogate.embedded import EmbeddedServer, find_model_repository

# Clients of others, which some tests ask with, take the environment's proxy to this machine itself too.
for name in ("no_grpc_proxy", "no_proxy"):
    os.environ[name] = ",".join(filter(None, (os.environ.get(name), "127.0.0.1", "localhost")))


@pytest.fixture(scope="session", autouse=True)
def interruptible():
    """Lets Ctrl-C reach what the tests start: a shell that runs the tests in the background has them ignore it."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


@pytest.fixture(scope="session")
def shipped_repository():
    """The model repository of this checkout."""
    return find_model_repository()


@pytest.fixture(scope="session")
def shipped_server(shipped_repository):
    with EmbeddedServer(shipped_repository, http_inference=True) as server:
        yield server


@pytest.fixture(scope="session")
def tiny_repository(shipped_repository, tmp_path_factory):
    """The shipped configurations and the gate's source around the tiny networks; the thresholds are 0.5."""
    return build_repository(shipped_repository, tmp_path_factory.mktemp("tiny") / "model_repository")


@pytest.fixture(scope="session")
def tiny_server(tiny_repository):
    with EmbeddedServer(tiny_repository, http_inference=True) as server:
        yield server

"""A Triton that is started with more than an embedded one."""

import contextlib

import pytest

from gliogate.embedded import EmbeddedServer


@pytest.fixture
def started_with(tiny_repository):
    """Starts a server whose Triton gets more arguments than an embedded one does."""
    with contextlib.ExitStack() as stack:

        def start(*arguments: str) -> EmbeddedServer:
            return stack.enter_context(EmbeddedServer(tiny_repository, triton_arguments=arguments))

        yield start

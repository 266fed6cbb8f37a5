"""A Triton that is started with more than an embedded one."""

import contextlib
import subprocess

import pytest

from gliogate.embedded import EmbeddedServer


@pytest.fixture
def started_with(tiny_repository, monkeypatch):
    """Starts a server whose Triton gets more arguments than an embedded one does."""
    with contextlib.ExitStack() as stack:

        def start(*arguments: str) -> EmbeddedServer:
            popen = subprocess.Popen
            with monkeypatch.context() as patch:
                # The proxy takes no notice of them.
                patch.setattr(subprocess, "Popen", lambda command, **rest: popen([*command, *arguments], **rest))
                return stack.enter_context(EmbeddedServer(tiny_repository))

        yield start

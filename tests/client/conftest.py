"""A server in trouble, for whatever a client meets there."""

from contextlib import ExitStack

import pytest
from support.troubled_triton import troubled_triton


@pytest.fixture
def triton_of():
    """Starts one in clear text, or with credentials."""
    with ExitStack() as stack:
        yield lambda credentials=None: stack.enter_context(troubled_triton(credentials))


@pytest.fixture
def triton(triton_of):
    return triton_of()

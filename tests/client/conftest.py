"""A server in trouble, for whatever a client meets there."""

import pytest
from troubled_triton import troubled_triton


@pytest.fixture
def triton():
    with troubled_triton() as triton:
        yield triton

"""Tests of your own code need no server: `gliogate.testing` has clients with answers inside. `pytest own_tests.py`."""

from collections.abc import Iterable

from gliogate import Client, GliogateError, Picture, ServerUnavailableError
from gliogate.phantom import make_phantoms
from gliogate.testing import FakeClient


def worklist(client: Client, pictures: Iterable[Picture]) -> dict[str, int]:
    """Your own code: how many pictures show tumor, and how many could not be judged."""
    results = list(client.analyze_many(pictures, on_error="return"))
    failed = sum(isinstance(result, GliogateError) for result in results)
    return {"tumor": sum(bool(getattr(result, "tumor", False)) for result in results), "failed": failed}


def test_a_server_that_goes_away_costs_one_picture() -> None:
    """The second of three requests fails."""
    gone = ServerUnavailableError("gone", url="fake:8001", status="UNAVAILABLE")
    pictures = [phantom.image for phantom in make_phantoms(3)]
    with FakeClient(prevalence=1, failures=[None, gone]) as client:
        assert worklist(client, pictures) == {"tumor": 2, "failed": 1}

"""What a worker is told."""

import pickle

import trustme

from gliogate.cli import _parser
from gliogate.cli.options import server_of
from gliogate.cohort.workers import Address


def test_every_option_of_a_connection_reaches_the_worker(tmp_path):
    authority = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(authority)
    (tmp_path / "token").write_text("secret")
    words = ["cohort", "in", "--output", "out", "--url", "localhost:8001", "--token-file", str(tmp_path / "token")]
    words += ["--ca", str(authority), "--header", "a=b", "--compression", "gzip", "--attempts", "2"]
    options = server_of(_parser().parse_args(words)).connection

    there = pickle.loads(pickle.dumps(Address("localhost:8001", options))).options  # noqa: S301

    assert there.pop("token")() == "secret"
    assert there == {name: value for name, value in options.items() if name != "token"}

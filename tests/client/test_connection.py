"""What a connection is made with, and what cannot be one."""

import json
from pathlib import Path

import pytest
import trustme

from gliogate import TLS, AuthenticationError, Client, Keepalive, Retries
from gliogate.connection import Connection, target_of


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("localhost:8001", "localhost:8001"),
        ("[::1]:8001", "[::1]:8001"),
        ("dns:///gliogate.example:8001", "dns:///gliogate.example:8001"),
        ("10.0.0.1:8001,10.0.0.2:8001", "ipv4:10.0.0.1:8001,10.0.0.2:8001"),
        (["[::1]:1", "[::1]:2"], "ipv6:[::1]:1,[::1]:2"),
    ],
)
def test_addresses_become_what_grpc_knows_them_by(url, target):
    assert target_of(url) == target


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("localhost", "'localhost' is no address"),
        ("http://localhost:8001", "'http://localhost:8001' is no address"),
        ("localhost:99999", "'localhost:99999' is no address"),
        ("a b:1", "'a b:1' is no address"),
        ("", "'' is no address"),
        ([], "no address of a server"),
        ("one:8001,two:8001", "'one' does not appear to be an IPv4 or IPv6 address; of names there can be one"),
        ("127.0.0.1:1,[::1]:1", "IPv4 and IPv6 addresses do not mix"),
    ],
)
def test_what_is_no_address_is_named(url, complaint):
    with pytest.raises(ValueError, match=complaint.replace("[", r"\[")):
        Client(url)


def test_the_environment_names_the_server_where_the_caller_does_not(monkeypatch):
    assert Connection.to(None).url == "localhost:8001"
    monkeypatch.setenv("GLIOGATE_URL", "elsewhere:1")
    assert Connection.to(None).url == "elsewhere:1"
    assert Connection.to("here:1").url == "here:1"
    monkeypatch.setenv("GLIOGATE_URL", "")
    assert Connection.to(None).url == "localhost:8001"


def test_only_what_is_unavailable_or_ending_is_sent_again_within_a_budget():
    (config,) = (json.loads(v) for k, v in Connection.to("a:1").channel_options() if k == "grpc.service_config")

    assert config["methodConfig"][0]["retryPolicy"]["retryableStatusCodes"] == ["UNAVAILABLE", "NOT_FOUND"]
    assert config["retryThrottling"]["maxTokens"] == Retries().budget
    assert Retries(attempts=1).service_config() == {}


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"attempts": 9}, "attempts is 9, expected 1 to 5"),
        ({"initial_backoff_s": 2.0}, "max_backoff_s is 1, expected 2 to 3600"),
        ({"budget": 0}, "budget is 0, expected 1 to 1000"),
        ({"multiplier": float("nan")}, "multiplier is nan"),
    ],
)
def test_retries_that_make_no_sense_are_refused(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        Retries(**options)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"token": "secret"}, "a token goes over TLS only"),
        ({"compression": "brotli"}, "compression is 'brotli', expected 'gzip', 'deflate' or None"),
        ({"metadata": {"X-Site": "a"}}, "metadata 'X-Site': expected lower-case"),
        ({"metadata": {"x-site": "Süd"}}, "the value of metadata 'x-site' cannot be sent: expected printable ASCII"),
        ({"tls": TLS(), "token": "sesame\n"}, "the token cannot be sent: expected printable ASCII, no line breaks"),
        ({"max_message_bytes": 10}, "max_message_bytes is 10, expected"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        Connection.to("a:1", **options)


def test_a_token_is_asked_for_at_each_call_and_never_shown():
    tokens = iter(["first", "second"])
    connection = Connection.to("a:1", tls=TLS(), token=lambda: next(tokens), metadata={"x-site": "ward-3"})

    assert connection.headers() == {"x-site": "ward-3", "authorization": "Bearer first"}
    assert connection.headers()["authorization"] == "Bearer second"
    assert "secret" not in repr(Connection.to("a:1", tls=TLS(), token="secret"))  # noqa: S106


def test_a_token_that_cannot_be_sent_is_told_as_that_and_not_shown():
    connection = Connection.to("a:1", tls=TLS(), token=lambda: "sesame\n")

    with pytest.raises(AuthenticationError, match="the token cannot be sent") as caught:
        connection.headers()

    assert "sesame" not in str(caught.value)


def test_keepalive_is_off_unless_asked_for():
    assert not any("keepalive" in name for name, _ in Connection.to("a:1").channel_options())
    options = dict(Connection.to("a:1", keepalive=Keepalive(every_s=10)).channel_options())
    assert options["grpc.keepalive_time_ms"] == 10_000


def test_certificates_that_cannot_be_used_are_named_before_anything_is_sent(tmp_path: Path):
    authority, other = trustme.CA(), trustme.CA()
    certificate, key, garbage = (tmp_path / name for name in ("certificate.pem", "key.pem", "garbage.pem"))
    authority.issue_cert("client").cert_chain_pems[0].write_to_path(certificate)
    other.issue_cert("client").private_key_pem.write_to_path(key)
    garbage.write_text("no certificate")

    with pytest.raises(ValueError, match=r"garbage\.pem: cannot be used for TLS"):
        TLS(root_certificates=garbage)
    with pytest.raises(ValueError, match=r"absent\.pem: cannot be used for TLS: .*No such file"):
        TLS(root_certificates=tmp_path / "absent.pem")
    with pytest.raises(ValueError, match=r"certificate\.pem, .*key\.pem: cannot be used for TLS: .*mismatch"):
        TLS(certificate=certificate, private_key=key)
    with pytest.raises(ValueError, match="go together"):
        TLS(certificate=certificate)

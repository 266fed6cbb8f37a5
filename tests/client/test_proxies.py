"""When a proxy is used, when not, and what is said of it."""

import socket

import numpy as np
import pytest

from gliogate import TLS, Client
from gliogate.cli.doctor import examine
from gliogate.connection import Connection
from gliogate.errors import DeadlineExceededError
from gliogate.proxies import EXEMPTING_VARIABLES, VARIABLES, is_loopback, shown
from gliogate.runs import Server

PROXY = "http://proxy.example:3128"
SECRET = "http://anna:s3cret@proxy.example:3128/"  # noqa: S105  it is nobody's
ELSEWHERE = "triton.example:8001"


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Without a proxy."""
    for name in (*VARIABLES, *EXEMPTING_VARIABLES):
        for spelled in (name, name.upper()):
            monkeypatch.delenv(spelled, raising=False)
    return monkeypatch


def route(url=ELSEWHERE, proxy=None):
    return Connection.to(url, proxy=proxy, tls=TLS()).route


@pytest.mark.parametrize("variable", [*VARIABLES, *map(str.upper, VARIABLES)])
def test_the_environment_s_proxy_is_used_only_where_it_is_asked_for(environment, variable):
    environment.setenv(variable, SECRET)

    unasked, asked = route(), route(proxy="environment")

    assert unasked.proxy is None
    assert unasked.note == (
        f"the proxy {PROXY} of {variable} is not used: proxy='environment' or --proxy environment asks for it"
    )
    assert dict(unasked.channel_options())["grpc.enable_http_proxy"] == 0
    assert asked.proxy == SECRET.removesuffix("/")
    assert asked.note == f"through the proxy {PROXY} of {variable}"
    assert dict(asked.channel_options())["grpc.http_proxy"] == SECRET.removesuffix("/")
    assert "s3cret" not in repr(asked)


def test_the_first_variable_that_is_set_counts_and_may_be_empty(environment):
    environment.setenv("http_proxy", PROXY)
    assert route(proxy="environment").proxy == PROXY
    environment.setenv("https_proxy", "http://other.example:1")
    assert route(proxy="environment").proxy == "http://other.example:1"
    environment.setenv("grpc_proxy", "")
    assert route(proxy="environment") == route() == Connection.to(ELSEWHERE).route
    assert route().note == ""


@pytest.mark.parametrize(
    "url",
    [
        "localhost:8001",
        "LocalHost.:8001",
        "triton.localhost:8001",
        "dns:///localhost:8001",
        "127.0.0.1:8001",
        "127.8.9.10:8001",
        "127.1:8001",
        "0x7f000001:8001",
        "0.0.0.0:8001",
        "[::1]:8001",
        "[::]:8001",
        "[::ffff:127.0.0.1]:8001",
        "127.0.0.1:8001,127.0.0.2:8001",
    ],
)
def test_there_is_never_a_proxy_to_this_machine_itself(url):
    connection = Connection.to(url, proxy=PROXY)  # Nor need there be TLS.

    assert connection.route.proxy is None
    assert connection.route.note == f"the proxy {PROXY} is not used: there is none to this machine itself"


@pytest.mark.parametrize("host", ["localhost.example", "128.0.0.1", "::2", "loopback", "127.0.0.1.example", "müller"])
def test_other_names_and_addresses_are_no_loopback(host):
    assert not is_loopback(host)


@pytest.mark.parametrize("variable", [*EXEMPTING_VARIABLES, *map(str.upper, EXEMPTING_VARIABLES)])
@pytest.mark.parametrize(
    ("url", "servers"),
    [
        (ELSEWHERE, "triton.example"),
        (ELSEWHERE, "a.example, .Example"),
        (f"dns:///{ELSEWHERE}", "example"),
        (ELSEWHERE, "*"),
        ("192.0.2.7:8001", "10.0.0.0/8,192.0.2.0/24"),
        ("192.0.2.7:8001,192.0.2.8:8001", "192.0.2.0/24"),
        ("[fd00::7]:8001", "fd00::/8"),
    ],
)
def test_servers_that_the_environment_exempts_are_reached_directly(environment, variable, url, servers):
    environment.setenv(variable, servers)

    found = Connection.to(url, proxy=PROXY).route

    assert found.proxy is None
    assert found.note == f"the proxy {PROXY} is not used: {variable} has this server"


@pytest.mark.parametrize("servers", ["", " , ", "other.example", "192.0.2.0/24", "0.0.0.0/99"])
def test_others_are_not(environment, servers):
    environment.setenv("no_proxy", servers)

    assert route(proxy=PROXY).proxy == PROXY


def test_a_proxy_sees_nothing_in_clear_text(environment):
    with pytest.raises(ValueError, match=f"through the proxy {PROXY}, which would see everything in clear text: give"):
        Client(ELSEWHERE, proxy=SECRET)
    environment.setenv("https_proxy", SECRET)
    with pytest.raises(ValueError, match="of https_proxy, which would see everything in clear text") as refused:
        Client(ELSEWHERE, proxy="environment")
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(
    ("proxy", "named"),
    [
        ("https://anna:s3cret@proxy.example:3128", "the proxy https://proxy.example:3128 is"),
        ("socks5://proxy.example:1080", "the proxy socks5://proxy.example:1080 is"),
        ("http://proxy.example", "the proxy http://proxy.example is"),
        ("anna:s3cret@proxy.example:3128", "the proxy proxy.example:3128 is"),
        ("http://anna:s3cret/@proxy.example:3128", "the proxy http://proxy.example:3128 is"),
        ("http://proxy.example:99999", "the proxy http://proxy.example:99999 is"),
        ("http://proxy.example:3128/?key=s3cret", "the proxy http://proxy.example:3128 is"),
        ("\x1b[2J", r"the proxy \\x1b\[2J is"),
        ("", "the proxy  is"),
        (True, "the proxy True is"),
    ],
)
def test_what_grpc_would_pass_over_is_refused(environment, proxy, named):
    for url in (ELSEWHERE, "localhost:8001"):
        with pytest.raises(ValueError, match=rf"{named} none that gRPC takes: expected http://HOST:PORT") as refused:
            Connection.to(url, proxy=proxy, tls=TLS())
        assert "s3cret" not in str(refused.value)
    if proxy and isinstance(proxy, str):
        environment.setenv("https_proxy", proxy)
        with pytest.raises(ValueError, match=f"{named.removesuffix(' is')} of https_proxy is none that gRPC takes"):
            route(proxy="environment")
        assert Connection.to("localhost:8001", proxy="environment").route.proxy is None


def test_a_proxy_leads_to_one_server():
    with pytest.raises(
        ValueError, match=r"would lead to one server, and several are named: 192\.0\.2\.7, 127\.0\.0\.1"
    ):
        route("192.0.2.7:1,127.0.0.1:2", proxy=PROXY)


def test_secrets_are_never_shown():
    assert shown("http://anna:pa@ss/word@[fd00::1]:3128/path?s3cret") == "http://[fd00::1]:3128"


def test_the_doctor_tells_of_the_environment_s_proxies(environment):
    environment.setenv("https_proxy", SECRET)
    environment.setenv("NO_PROXY", ".hospital.example")

    def told(url, **connection):
        (finding,) = (each for each in examine(Server(url=url, connection=connection)) if each.subject == "proxy")
        return finding.state, finding.details

    variables = f"https_proxy={PROXY}; NO_PROXY=.hospital.example"
    assert told(None) == (
        "absent",
        f"the proxy {PROXY} of https_proxy is not used: there is none to this machine itself; {variables}",
    )
    state, details = told("127.0.0.1:9")
    assert (state, details.endswith(variables)) == ("absent", True)
    # A name that cannot be looked up: this test needs no network.
    state, details = told("triton.invalid:9", tls=TLS(), proxy="environment")
    assert (state, details) == ("ok", f"through the proxy {PROXY} of https_proxy; {variables}")
    environment.delenv("https_proxy")
    environment.delenv("NO_PROXY")
    assert told(None) == ("absent", "none")


def test_a_deadline_that_passed_before_a_silent_server_names_the_proxy_too(environment):
    environment.setenv("https_proxy", SECRET)
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        Client(f"127.0.0.1:{silent.getsockname()[1]}") as client,
        pytest.raises(DeadlineExceededError, match=f"the proxy {PROXY} of https_proxy is not used") as error,
    ):
        client.detect(np.zeros((256, 256), np.uint8), timeout_s=1)
    assert "s3cret" not in str(error.value)

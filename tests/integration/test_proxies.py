"""Real proxies: one that must see nothing, one that sees TLS alone."""

import asyncio
import os
import subprocess
import sys

import numpy as np
import pytest
import trustme
from support.connect_proxy import connect_proxy
from support.tiny_networks import slices

from gliogate import TLS, AsyncClient, Client, ServerUnavailableError
from gliogate.embedded import EmbeddedServer
from gliogate.proxies import EXEMPTING_VARIABLES, VARIABLES
from loadtests.server_view import ServerView
from loadtests.settings import Settings

NAMES = (*VARIABLES, *map(str.upper, VARIABLES), "all_proxy", "ALL_PROXY")
TUMOR = slices(0.75)[0]
ELSEWHERE = "triton.example:8001"
"""A name that nobody but the proxy knows."""


@pytest.fixture
def environment(monkeypatch):
    for name in (*EXEMPTING_VARIABLES, *map(str.upper, EXEMPTING_VARIABLES)):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.fixture
def proxy_of_environment(environment):
    """One that every variable names, those of gRPC's for single addresses too."""
    with connect_proxy() as proxy:
        for name in NAMES:
            environment.setenv(name, proxy.url)
        environment.setenv("GRPC_ADDRESS_HTTP_PROXY", proxy.url.removeprefix("http://"))
        environment.setenv("GRPC_ADDRESS_HTTP_PROXY_ENABLED_ADDRESSES", "0.0.0.0/0,::/0")
        yield proxy


def test_a_server_on_this_machine_is_asked_without_the_environment_s_proxy(proxy_of_environment, tiny_server):
    async def ask(url):
        async with AsyncClient(url) as client:
            return await client.analyze(TUMOR)

    for url in (tiny_server.url, tiny_server.url.replace("127.0.0.1", "localhost")):
        for options in ({}, {"proxy": "environment"}, {"proxy": proxy_of_environment.url}):
            with Client(url, **options) as client:
                assert client.analyze(TUMOR).tumor
        assert asyncio.run(ask(url)).tumor
    view = ServerView(Settings(url=tiny_server.url, metrics_url=tiny_server.metrics_url))
    (snapshot,) = view.snapshot().values()
    assert not snapshot.gaps
    view.close()

    assert proxy_of_environment.asked == []


def test_the_command_reaches_the_server_that_it_starts_itself(proxy_of_environment, tiny_repository, tmp_path):
    np.save(tmp_path / "scan.npy", TUMOR)
    program = [sys.executable, "-c", "import sys; from gliogate.cli import main; sys.exit(main())"]
    command = [*program, "analyze", tmp_path / "scan.npy", "--model-repository", tiny_repository]

    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, env=os.environ)

    assert "1 scans, 1 with tumor" in done.stdout
    assert proxy_of_environment.asked == []


def test_a_proxy_that_was_asked_for_sees_tls_alone(environment, tiny_repository, tmp_path):
    authority = trustme.CA()
    certificate = authority.issue_cert("triton.example")
    authority.cert_pem.write_to_path(tmp_path / "root")
    certificate.private_key_pem.write_to_path(tmp_path / "key")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "certificate")
    files = {"tls_certificate": tmp_path / "certificate", "tls_private_key": tmp_path / "key"}
    tls = TLS(root_certificates=tmp_path / "root")

    async def ask(**options):
        async with AsyncClient(ELSEWHERE, tls=tls, **options) as client:
            return await client.analyze(TUMOR)

    with EmbeddedServer(tiny_repository, **files) as server, connect_proxy(server.url) as proxy:
        environment.setenv("HTTPS_PROXY", proxy.url)
        asked = proxy.url.replace("//", "//anna:pa%40ss@")
        for named in ("environment", asked):
            with Client(ELSEWHERE, tls=tls, proxy=named) as client:
                assert client.analyze(TUMOR).tumor
            assert asyncio.run(ask(proxy=named)).tumor

        assert proxy.asked == [f"CONNECT {ELSEWHERE} HTTP/1.1"] * 4
        assert proxy.authorization == [None, None, *["Basic YW5uYTpwYUBzcw=="] * 2]
        assert len(proxy.seen) > 4 * TUMOR.nbytes
        for clear in (b"brain_tumor", b"ModelInfer", TUMOR.tobytes()[:1000]):
            assert clear not in proxy.seen
        # Nobody but the proxy knows the name, so nothing is reached without.
        environment.setenv("no_proxy", "triton.example")
        with (
            Client(ELSEWHERE, tls=tls, proxy=asked) as client,
            pytest.raises(ServerUnavailableError, match=f"the proxy {proxy.url} is not used: no_proxy has this server"),
        ):
            client.wait_until_ready(0)
        assert len(proxy.asked) == 4


def test_who_cannot_be_reached_is_told_with_the_proxy(environment):
    with connect_proxy() as proxy:
        environment.setenv("https_proxy", proxy.url.replace("//", "//anna:s3cret@"))
        used = rf"code 403; through the proxy {proxy.url}\)"
        with (
            Client(ELSEWHERE, tls=TLS(), proxy=proxy.url) as client,
            pytest.raises(ServerUnavailableError, match=used),
        ):
            client.analyze(TUMOR)
        here, elsewhere = "there is none to this machine itself", "proxy='environment' or --proxy environment asks for"
        for url, reason in (("127.0.0.1:9", here), ("triton.invalid:9", elsewhere)):
            told = f"the proxy {proxy.url} of https_proxy is not used: {reason}"
            with Client(url) as client, pytest.raises(ServerUnavailableError, match=told) as caught:
                client.analyze(TUMOR)
            assert "s3cret" not in str(caught.value)

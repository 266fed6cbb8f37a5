"""The command line that the chart renders, run by the embedded Triton, with certificates and a token made here."""

import contextlib
import json
import re
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from random import Random
from urllib.parse import urlsplit

import numpy as np
import pytest
from support import wrong_requests
from support.pods import PROBES, TOKEN, served_pod
from support.right_requests import CALLERS, Load
from support.tiny_networks import slices
from support.waiting import wait_for
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException

from gliogate import TLS, Client
from gliogate.contract import MODELS
from gliogate.errors import ServerUnavailableError

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"

SENT_AGAIN = [("grpc.per_rpc_retry_buffer_size", 2**20)]
"""Lets gRPC send a batch again that a connection at its end did not take; two slices are more than its 256 KiB."""


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """The folders `server` and `client`, each with a certificate, its key and the authority, as in a secret."""
    folder = tmp_path_factory.mktemp("certificates")

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    new = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc", "-days", "2")
    signed = ("-CA", "ca.crt", "-CAkey", "ca.key", "-addext", "basicConstraints=CA:FALSE")
    openssl(*new, "-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.crt")
    for secret, name in (("server", "localhost"), ("client", "client")):
        (folder / secret).mkdir()
        shutil.copy(folder / "ca.crt", folder / secret)
        names = ("-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}")
        openssl(*new, *signed, *names, "-keyout", f"{secret}/tls.key", "-out", f"{secret}/tls.crt")
    return folder


@pytest.fixture
def serve(pod, tiny_repository, certificates, tmp_path):
    """Starts the container of a scenario."""
    with contextlib.ExitStack() as stack:

        def serve(scenario, **values):
            secret = certificates / "server"
            return stack.enter_context(served_pod(pod, tiny_repository, tmp_path, scenario, secret=secret, **values))

        yield serve


@pytest.fixture
def collector():
    """What takes traces by OTLP over HTTP; yields its address and the paths that were posted to."""
    posted = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            posted.append((self.path, b"brain_tumor" in self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1/traces", posted
        server.shutdown()
        thread.join()


class Names(threading.Thread):
    """The cluster's DNS: the pods of a headless service, whatever the name."""

    def __init__(self, *addresses):
        super().__init__()
        self.addresses = addresses
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.settimeout(0.1)
        self.port = self._socket.getsockname()[1]
        self._ended = False

    def run(self):
        with self._socket:
            while not self._ended:
                with contextlib.suppress(TimeoutError):
                    question, peer = self._socket.recvfrom(512)
                    self._socket.sendto(self._answer(question), peer)

    def _answer(self, question):
        end = question.index(b"\0", 12) + 5
        is_ipv4 = question[end - 4 : end - 2] == b"\0\1"
        # Each: the name asked about, IPv4, for one second, four bytes.
        records = [b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4" + socket.inet_aton(each) for each in self.addresses if is_ipv4]
        counts = b"\0\1" + len(records).to_bytes(2) + b"\0\0\0\0"
        return question[:2] + b"\x81\x80" + counts + question[12:end] + b"".join(records)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self._ended = True
        self.join()


def connected(port):
    """Returns the addresses that this machine has connections to, at a port."""
    rows = [row.split() for name in ("tcp", "tcp6") for row in Path("/proc/net", name).read_text().splitlines()[1:]]
    ends = [row[2].split(":") for row in rows if row[3] == "01"]
    return {socket.inet_ntoa(bytes.fromhex(host[-8:])[::-1]) for host, at in ends if int(at, 16) == port}


def ask(client):
    image = InferInput("image", [2, 256, 256, 3], "UINT8")
    image.set_data_from_numpy(np.stack(list(slices(0.75, 0.25))))
    return client.infer("brain_tumor", [image]).as_numpy("tumor_probability").ravel().tolist()


def test_a_pod_without_tls_serves_and_keeps_its_administration_to_itself(serve, metrics_of):
    served = serve("cpu", triton__http__enabled=False, triton__grpc__maxConnectionAgeS=1)

    assert served.health() == b"\x08\x01"
    assert {"nv_inference_request_duration_us", "nv_inference_request_summary_us"} <= metrics_of(served.metrics_url)
    with contextlib.closing(InferenceServerClient(served.url, channel_args=SENT_AGAIN)) as client:
        assert ask(client) == [0.75, 0.25]
        # Nobody knows the token that the pod drew.
        with pytest.raises(InferenceServerException, match="restricted"):
            client.get_model_repository_index(headers={"triton-grpc-protocol-admin": TOKEN})
        # The connection is renewed again and again, and no request is lost.
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline:
            assert ask(client) == [0.75, 0.25]
    # For the probes it listens on loopback, and so on none of the machine's other addresses.
    urllib.request.urlopen(f"{served.http_url}/v2/health/live", timeout=5).close()
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"{served.http_url}/v2/health/live".replace("127.0.0.1", "127.0.0.2"), timeout=5)


def test_clients_leave_a_pod_that_goes_and_lose_no_request(serve):
    """Two addresses of one Triton stand for two pods; what clients go by is the names and the age of connections."""
    everywhere = "0.0.0.0"  # noqa: S104  all of 127.0.0.0/8
    served = serve("cpu", host=everywhere, triton__http__enabled=False, triton__grpc__maxConnectionAgeS=1)
    port = int(served.url.rpartition(":")[2])
    options = [
        ("grpc.service_config", json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})),
        # gRPC's 30 s, in which it does not look again, are too long for a test; the chart's drain allows for them.
        ("grpc.dns_min_time_between_resolutions_ms", 100),
        *SENT_AGAIN,
    ]

    with (
        Names("127.0.0.1", "127.0.0.2") as names,
        contextlib.closing(
            InferenceServerClient(f"dns://127.0.0.1:{names.port}/gliogate-headless:{port}", channel_args=options)
        ) as client,
    ):
        for addresses in (("127.0.0.1", "127.0.0.2"), ("127.0.0.2",)):
            names.addresses = addresses
            deadline = time.monotonic() + 10
            while connected(port) != set(addresses):
                assert ask(client) == [0.75, 0.25]
                assert time.monotonic() < deadline


def test_a_pod_is_started_again_when_a_python_process_has_died(serve):
    served = serve("cpu", triton__http__enabled=False)
    assert served.probe("livenessProbe")

    served.kill_gate()

    # Triton does not notice.
    assert served.health() == b"\x08\x01"
    wait_for(lambda: not served.probe("livenessProbe"))


def test_the_log_is_as_it_is_told(serve):
    (pattern,) = re.findall(r"^(\^\(\?P<time>.*)$", OPERATIONS.read_text(encoding="utf-8"), re.MULTILINE)
    served = serve("cpu")

    # The rest are tables.
    lines = [line for line in served.log.read_text(errors="replace").splitlines() if line.endswith('"')]
    texts = [re.fullmatch(pattern, line)["text"] for line in lines]
    assert any(text.startswith("Started GRPCInferenceService") for text in texts)


def test_with_mutual_tls_only_a_certificate_gets_in(serve, certificates, smoke_test):
    served = serve("mtls")
    authority = certificates / "ca.crt"
    own = {"certificate": certificates / "client" / "tls.crt", "private_key": certificates / "client" / "tls.key"}

    with Client(served.url, tls=TLS(root_certificates=authority, **own)) as client:
        client.wait_until_ready(5)
        assert client.analyze(next(iter(slices(0.75)))).tumor_probability == 0.75
    # It gets in too, and finds that these are no good models.
    assert smoke_test(served.url, 2, 5, certificates / "client").startswith("too few verdicts are right")

    for tls in (TLS(root_certificates=authority), None):
        with Client(served.url, tls=tls) as stranger, pytest.raises(ServerUnavailableError):
            stranger.wait_until_ready(1)

    assert all(served.probe(name) for name in PROBES)


@pytest.mark.parametrize("scenario", ["cpu", "mtls"])
def test_a_cluster_may_have_ipv6_only(scenario, serve, metrics_of):
    served = serve(scenario, triton__ipFamily="IPv6")

    port = int(served.url.rpartition(":")[2])
    socket.create_connection(("::1", port), timeout=5).close()
    assert "nv_inference_count" in metrics_of(served.metrics_url)
    assert all(served.probe(name) for name in PROBES)


def test_only_the_token_administers(serve):
    served = serve("cpu", triton__admin__existingSecret="gliogate-admin")

    with contextlib.closing(InferenceServerClient(served.url)) as client:
        index = client.get_model_repository_index(headers={"triton-grpc-protocol-admin": TOKEN})
        assert {model.name for model in index.models} == {model.name for model in MODELS}
        for headers in ({}, {"triton-grpc-protocol-admin": "another"}):
            with pytest.raises(InferenceServerException, match="restricted"):
                client.get_model_repository_index(headers=headers)
            with pytest.raises(InferenceServerException, match="restricted"):
                client.get_system_shared_memory_status(headers=headers)
    assert TOKEN not in served.log.read_text(errors="replace")
    index = f"{served.http_url}/v2/repository/index"
    with pytest.raises(urllib.error.HTTPError, match="Forbidden"):
        urllib.request.urlopen(urllib.request.Request(index, method="POST"), timeout=5)
    urllib.request.urlopen(urllib.request.Request(index, method="POST", headers={"admin": TOKEN}), timeout=5).close()


@pytest.mark.parametrize("token", ["two\nlines", "a:colon", "a,comma"])
def test_a_token_that_triton_would_misread_is_refused(token, pod):
    _, container = pod(triton__admin__existingSecret="gliogate-admin")

    started = subprocess.run(
        container["args"],
        env={"GLIOGATE_ADMIN_TOKEN": token},
        capture_output=True,
        text=True,
        check=False,
    )
    assert started.returncode == 1
    assert "triton.admin.existingSecret must be of letters" in started.stderr


@pytest.fixture
def started(tmp_path):
    """Starts a container; returns its first process, and what a Triton in it tells of its number, libraries, flags."""
    (tmp_path / "entrypoint").write_text('#!/bin/bash\nexport LD_LIBRARY_PATH=/compat\nexec "$@"\n')
    (tmp_path / "tritonserver").write_text('#!/bin/sh\necho "$$ ${LD_LIBRARY_PATH:-none} $*"\n')
    for each in tmp_path.iterdir():
        each.chmod(0o755)

    def started(container):
        # As Kubernetes has it: `command` is in place of the image's entrypoint.
        with subprocess.Popen(
            [*container.get("command", [tmp_path / "entrypoint"]), *container["args"]],
            env={"PATH": f"{tmp_path}:/usr/bin:/bin", "HOSTNAME": "gliogate-0"},
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            told, _ = process.communicate(timeout=10)
        return process.pid, told.split(maxsplit=2)

    return started


def test_pods_that_share_a_nodes_memory_have_regions_of_their_own(started, pod):
    """Triton numbers them: https://github.com/triton-inference-server/python_backend/blob/main/src/stub_launcher.cc"""
    _, (*_, arguments) = started(pod("mps")[1])

    assert "--backend-config=python,shm-region-prefix-name=gliogate-0- " in arguments
    assert "shm-region-prefix-name" not in started(pod("gpu")[1])[1][-1]


@pytest.mark.parametrize("values", [{}, {"image__entrypoint": ["/usr/bin/env"]}])
def test_the_images_entrypoint_comes_first_and_triton_has_what_it_has_set(values, started, pod):
    """That of NVIDIA's images puts the libraries of CUDA that fit the driver before the others.

    https://github.com/triton-inference-server/server/issues/2386
    """
    first, (number, libraries, arguments) = started(pod("gpu", **values)[1])

    # Process 1 of the pod: its signals reach Triton, and the probes look for its children.
    assert int(number) == first
    assert libraries == ("none" if values else "/compat")
    assert "--model-repository=/models" in arguments


def test_traces_go_to_the_collector_that_one_value_names(serve, collector, monkeypatch):
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    url, posted = collector
    served = serve("cpu", tracing__url=url, tracing__rate=1)

    with contextlib.closing(InferenceServerClient(served.url)) as client:
        ask(client)

    deadline = time.monotonic() + 10
    while not posted and time.monotonic() < deadline:
        time.sleep(0.05)
    assert posted[0] == ("/v1/traces", True)


def test_tls_alone_asks_for_no_certificate(serve, certificates):
    served = serve("mtls", tls__mutual=False)

    with Client(served.url, tls=TLS(root_certificates=certificates / "ca.crt")) as client:
        client.wait_until_ready(5)


def test_no_wrong_request_fails_a_right_one(serve):
    """Through Triton's own ports, which nothing stands before in a pod."""
    served = serve("cpu", triton__http__enabled=True)
    random = Random(21)
    contents = [wrong_requests.generate_bytes(random) for _ in range(600)]
    kinds = ("first_dimension", "shape", "byte_count", "datatype", "input_count", "parameters")

    with Load(served.url) as load:
        assert wrong_requests.unanswered(served.url, contents) == []
        for kind in kinds * 20:
            request = wrong_requests.right()
            wrong_requests.KINDS[kind](random, request)
            path, headers, body = wrong_requests.over_http(request)
            with contextlib.closing(HTTPConnection(urlsplit(served.http_url).netloc, timeout=30)) as connection:
                connection.request("POST", path, body, headers)
                connection.getresponse().read()  # Whatever it is, it is an answer.

    assert load.answered >= CALLERS
    assert all(served.probe(name) for name in PROBES)

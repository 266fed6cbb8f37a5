"""What stands before the embedded Triton: what would end it never reaches it, what is not for strangers is closed."""

import contextlib
import gzip
import http.client
import json
import signal
import socket
import ssl
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import grpc
import pytest
import trustme
from support.signals import pid_of_proxy, signal_triton
from support.tiny_networks import slices
from tritonclient.grpc import service_pb2, service_pb2_grpc

from gliogate import TLS, Client, contract
from gliogate.embedded import EmbeddedServer
from gliogate.embedded.proxy.bodies import JSON_BYTES
from gliogate.embedded.proxy.main import TRIMS_EVERY_S
from gliogate.embedded.proxy.settings import MESSAGE_BYTES
from gliogate.errors import AuthenticationError, ServerUnavailableError

TOKEN = "only-for-us"  # noqa: S105  for these tests
INFER = f"/v2/models/{contract.ENSEMBLE.name}/infer"


@pytest.fixture(scope="module")
def closed_server(tiny_repository):
    """As `gliogate serve` starts one, without inference over HTTP."""
    with EmbeddedServer(tiny_repository) as server:
        yield server


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def pem(authority, tmp_path_factory):
    """Files by name: those of a server at 127.0.0.1 and of a client, and their authority's."""
    folder = tmp_path_factory.mktemp("pem")
    files = {"authority": authority.cert_pem}
    for name, identity in (("server", "127.0.0.1"), ("client", "client@example.org")):
        issued = authority.issue_cert(identity)
        files |= {name: issued.cert_chain_pems[0], f"{name}_key": issued.private_key_pem}
    for name, content in files.items():
        content.write_to_path(folder / name)
    return {name: folder / name for name in files}


@pytest.fixture(scope="module")
def guarded_server(tiny_repository, pem):
    """With TLS and a token."""
    with EmbeddedServer(
        tiny_repository,
        tls_certificate=pem["server"],
        tls_private_key=pem["server_key"],
        token=TOKEN,
        http_inference=True,
    ) as server:
        yield server


def address_of(url):
    parts = urlsplit(url)
    return parts.hostname, parts.port


def send(url, chunks):
    """Sends raw bytes, as far as they are taken; returns what came back."""
    with contextlib.suppress(OSError), socket.create_connection(address_of(url), timeout=10) as connection:
        with contextlib.suppress(OSError):
            for chunk in chunks:
                connection.sendall(chunk)
            connection.shutdown(socket.SHUT_WR)
        return connection.recv(65536)
    return b""


def one_byte_chunks():
    head = f"POST {INFER} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    return [head, *([b"1\r\na\r\n" * 10_000] * 60), b"0\r\n\r\n"]


def nested_json(size=3_000_000):
    head = f"POST {INFER} HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n".encode()
    return [head, b"[" * size]


def many_headers():
    return [f"GET {INFER} HTTP/1.1\r\n".encode(), *(b"X-%d: a\r\n" % number for number in range(100_000)), b"\r\n"]


@pytest.mark.parametrize("page", ["http_url", "metrics_url"])
@pytest.mark.parametrize("attack", [one_byte_chunks, nested_json, many_headers])
@pytest.mark.parametrize("kind", ["closed_server", "tiny_server"])
def test_what_ends_this_triton_over_http_does_not_reach_it(request, kind, attack, page):
    server = request.getfixturevalue(kind)

    answer = send(getattr(server, page), attack())

    assert answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4")) or not answer
    server.check()
    with Client(server.url) as client:
        assert client.detect(slices(0.75)[0]).tumor_probability == pytest.approx(0.75)


def test_a_message_that_unpacks_to_a_gigabyte_is_refused_unpacked(closed_server):
    request = service_pb2.ModelInferRequest(model_name=contract.ENSEMBLE.name)
    request.inputs.add(name="image", datatype="UINT8", shape=[1, 256, 256, 3])
    request.raw_input_contents.append(bytes(2**29))
    with grpc.insecure_channel(
        closed_server.url, compression=grpc.Compression.Gzip, options=[("grpc.max_send_message_length", -1)]
    ) as channel:
        triton = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        with pytest.raises(grpc.RpcError) as error:
            triton.ModelInfer(request, timeout=60)

    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max" in error.value.details()
    assert max(memory_mib(process, "VmHWM") for process in processes_of(closed_server)) < 512


@pytest.mark.slow
def test_what_a_burst_took_of_memory_is_given_back(tiny_repository):
    request = service_pb2.ModelInferRequest(model_name=contract.ENSEMBLE.name)
    request.inputs.add(name="image", datatype="UINT8", shape=[1, 256, 256, 3])
    request.raw_input_contents.append(bytes(196608))
    with EmbeddedServer(tiny_repository) as server, grpc.insecure_channel(server.url) as channel:
        triton = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        signal_triton(server, signal.SIGSTOP)
        calls = [triton.ModelInfer.future(request, timeout=60) for _ in range(1200)]
        time.sleep(5)
        signal_triton(server, signal.SIGCONT)
        for call in calls:
            call.exception()
        time.sleep(TRIMS_EVERY_S + 5)
        assert memory_mib(pid_of_proxy(server), "VmHWM") > 150, "it held none of them"
        assert memory_mib(pid_of_proxy(server), "VmRSS") < 100


def test_a_message_that_is_too_large_is_refused(closed_server):
    request = service_pb2.ModelInferRequest(
        model_name=contract.ENSEMBLE.name, raw_input_contents=[bytes(MESSAGE_BYTES + 1)]
    )
    with grpc.insecure_channel(closed_server.url) as channel, pytest.raises(grpc.RpcError) as error:
        service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=60)

    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


CLOSED = {
    "RepositoryIndex": service_pb2.RepositoryIndexRequest(),
    "RepositoryModelLoad": service_pb2.RepositoryModelLoadRequest(model_name=contract.ENSEMBLE.name),
    "RepositoryModelUnload": service_pb2.RepositoryModelUnloadRequest(model_name=contract.ENSEMBLE.name),
    "SystemSharedMemoryStatus": service_pb2.SystemSharedMemoryStatusRequest(),
    "SystemSharedMemoryRegister": service_pb2.SystemSharedMemoryRegisterRequest(name="a", key="/a", byte_size=1),
    "SystemSharedMemoryUnregister": service_pb2.SystemSharedMemoryUnregisterRequest(),
    "CudaSharedMemoryStatus": service_pb2.CudaSharedMemoryStatusRequest(),
    "CudaSharedMemoryRegister": service_pb2.CudaSharedMemoryRegisterRequest(name="a"),
    "CudaSharedMemoryUnregister": service_pb2.CudaSharedMemoryUnregisterRequest(),
    "TraceSetting": service_pb2.TraceSettingRequest(),
    "LogSettings": service_pb2.LogSettingsRequest(),
}


@pytest.mark.parametrize("method", CLOSED)
def test_what_administers_the_server_is_closed(closed_server, method):
    with grpc.insecure_channel(closed_server.url) as channel:
        triton = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        with pytest.raises(grpc.RpcError) as error:
            getattr(triton, method)(CLOSED[method], timeout=10)

    assert error.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert method in error.value.details()


@pytest.mark.parametrize(
    "path",
    [
        "/v2/repository/index",
        "/v2/repository/models/brain_tumor/unload",
        "/v2/systemsharedmemory/status",
        "/v2/systemsharedmemory/region/a/register",
        "/v2/logging",
        "/v2/trace/setting",
        "/v2/models/brain_tumor/generate",
        "/v2/models/../repository/index",
        "/v2/models/brain_tumor/infer/",
        "/metrics",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
def test_so_it_is_over_http(tiny_server, method, path):
    connection = http.client.HTTPConnection(*address_of(tiny_server.http_url), timeout=10)
    with contextlib.closing(connection):
        connection.request(method, path, body=b"{}" if method != "GET" else None)
        assert connection.getresponse().status in (404, 501)


def test_a_tensor_in_shared_memory_of_strangers_is_refused(closed_server):
    request = service_pb2.ModelInferRequest(model_name=contract.ENSEMBLE.name)
    tensor = request.inputs.add(name="image", datatype="UINT8", shape=[1, 256, 256, 3])
    tensor.parameters["shared_memory_region"].string_param = "a"
    tensor.parameters["shared_memory_byte_size"].int64_param = 196608
    with grpc.insecure_channel(closed_server.url) as channel, pytest.raises(grpc.RpcError, match="Unable to find"):
        service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=10)


def test_inference_over_http_is_off_unless_asked_and_health_and_metrics_are_there(closed_server):
    with pytest.raises(urllib.error.HTTPError, match="403") as error:
        urllib.request.urlopen(f"{closed_server.http_url}{INFER}", data=b"{}", timeout=10)
    assert "--http-inference" in json.load(error.value)["error"]
    error.value.close()
    for url in (f"{closed_server.http_url}/v2/health/live", f"{closed_server.http_url}/v2/health/ready"):
        with urllib.request.urlopen(url, timeout=10) as response:
            assert response.status == 200
    with urllib.request.urlopen(closed_server.metrics_url, timeout=10) as response:
        assert response.headers["Content-Type"].startswith("text/plain")


def image(**fields):
    return {"name": "image", "datatype": "UINT8", "shape": [1, 256, 256, 3], "data": [0] * 196608} | fields


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        pytest.param(b"", "no JSON", id="nothing"),
        pytest.param(b"\xff\xfe", "no JSON", id="no text"),
        pytest.param(b"{", "no JSON", id="half"),
        pytest.param(b"[]", "no JSON object", id="a list"),
        pytest.param(b"{}", "Unable to parse 'inputs'", id="an empty object"),
        pytest.param(b'{"inputs": [{"data": []}]}', "no list of integers", id="no shape at all"),
        pytest.param(b'{"inputs": [], "id": -0.0}', "Unable to parse 'id'", id="an id"),
        pytest.param(b'{"inputs": {}}', "'inputs' is no list", id="inputs"),
        pytest.param(b'{"id": NaN}', "no NaN in it", id="NaN"),
        pytest.param(
            b'{"inputs": [{"name": ' + b"[" * 900 + b"]" * 900 + b"}]}", "nested too deeply", id="a deep name"
        ),
        pytest.param(b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply", id="deep"),
        pytest.param({"inputs": [image(data=[256] * 196608)]}, "no UINT8, expected integers, 0 to 255", id="too large"),
        pytest.param({"inputs": [image(data=[-1] * 196608)]}, "no UINT8", id="negative"),
        pytest.param({"inputs": [image(data=[0.5] * 196608)]}, "no UINT8", id="a fraction"),
        pytest.param({"inputs": [image(data=[True] * 196608)]}, "no UINT8", id="a bool"),
        pytest.param({"inputs": [image(data=["0"] * 196608)]}, "no UINT8", id="text"),
        pytest.param({"inputs": [{"name": "image", "shape": [2**70]}]}, "beyond 64 bits", id="a shape"),
        pytest.param(b'{"parameters": {"detection_threshold": 1e999}}', "beyond a double", id="an infinity"),
        pytest.param({"inputs": [image(data=[0])]}, "its data has 1 values, and its shape 196608", id="too little"),
        pytest.param({"inputs": [image(shape=[2, 256])]}, "its data has 196608 values", id="too much"),
        pytest.param({"inputs": [image(shape="all")]}, "its shape is no list of integers", id="no shape"),
        pytest.param(b'{"inputs": [], "inputs": [1]}', "a name twice", id="a name twice"),
        pytest.param(b'{"inputs": [{"data": [], "shape": [1' + b"0" * 4000 + b"]}]}", "no list of integers", id="huge"),
    ],
)
def test_json_that_is_wrong_is_a_400_with_the_reason(tiny_server, body, reason):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(f"{tiny_server.http_url}{INFER}", data=content, timeout=30)
    with error.value:
        assert error.value.code == 400
        assert reason in json.load(error.value)["error"]


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        pytest.param({"Content-Encoding": "gzip"}, lambda: gzip.compress(bytes(2**28)), 413, id="a bomb"),
        pytest.param({"Content-Encoding": "gzip"}, lambda: gzip.compress(b"{}")[:-4], 400, id="half a gzip"),
        pytest.param({"Content-Encoding": "gzip"}, lambda: b"no gzip", 400, id="no gzip"),
        pytest.param({"Content-Encoding": "br"}, lambda: b"{}", 415, id="another encoding"),
        pytest.param({"Content-Length": str(2**40)}, bytes, 413, id="a large one"),
        pytest.param({}, lambda: b" " * (JSON_BYTES + 1), 413, id="as JSON"),
        pytest.param({"Content-Length": "-1"}, bytes, 411, id="a negative length"),
        pytest.param({"Inference-Header-Content-Length": "7"}, lambda: b"{}", 400, id="too long a header"),
        pytest.param({"Inference-Header-Content-Length": "-7"}, lambda: b"{}", 400, id="a negative header"),
    ],
)
def test_a_body_is_bounded_compressed_and_decompressed(tiny_server, headers, body, status):
    connection = http.client.HTTPConnection(*address_of(tiny_server.http_url), timeout=30)
    with contextlib.closing(connection):
        connection.request("POST", INFER, body=body(), headers=headers)
        assert connection.getresponse().status == status
    assert max(memory_mib(process, "VmHWM") for process in processes_of(tiny_server)) < 1024


def test_a_packed_body_is_answered(tiny_server):
    content = json.dumps({"inputs": [image()], "outputs": [{"name": "tumor_probability"}]}).encode()
    request = urllib.request.Request(
        f"{tiny_server.http_url}{INFER}", data=gzip.compress(content), headers={"Content-Encoding": "gzip"}
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        assert json.load(response)["outputs"][0]["data"] == [0.0]


def test_tls_and_the_token_let_in_who_has_both(guarded_server, pem):
    tls = TLS(root_certificates=pem["authority"])
    with Client(guarded_server.url, tls=tls, token=TOKEN) as client:
        client.wait_until_ready()
        assert client.detect(slices(0.75)[0]).tumor_probability == pytest.approx(0.75)
    with Client(guarded_server.url, tls=tls, token=f"{TOKEN}!") as client, pytest.raises(AuthenticationError):
        client.detect(slices(0.75)[0])
    with Client(guarded_server.url, tls=tls) as client:
        assert client.is_ready()
        with pytest.raises(AuthenticationError):
            client.detect(slices(0.75)[0])
    with Client(guarded_server.url) as client, pytest.raises(ServerUnavailableError):
        client.detect(slices(0.75)[0])


@pytest.mark.parametrize(
    ("page", "token", "status"),
    [
        ("http_url", "", 200),
        ("metrics_url", "", 401),
        ("metrics_url", TOKEN, 200),
        ("metrics_url", "another", 401),
    ],
)
def test_the_token_opens_the_metrics_and_health_needs_none(guarded_server, pem, page, token, status):
    url = getattr(guarded_server, page)
    assert url.startswith("https://")
    request = urllib.request.Request(f"{url}/v2/health/live" if page == "http_url" else url)
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    context = ssl.create_default_context(cafile=pem["authority"])
    try:
        with urllib.request.urlopen(request, timeout=10, context=context) as response:
            found = response.status
    except urllib.error.HTTPError as error:
        with error:
            found = error.code
    assert found == status


@pytest.mark.usefixtures("guarded_server")
def test_the_token_is_on_no_command_line():
    assert not [pid for pid in Path("/proc").glob("[0-9]*") if TOKEN.encode() in read_if_there(pid / "cmdline")]


def test_a_client_without_a_certificate_is_refused_where_one_is_asked_for(tiny_repository, pem):
    with EmbeddedServer(
        tiny_repository,
        tls_certificate=pem["server"],
        tls_private_key=pem["server_key"],
        tls_client_authority=pem["authority"],
    ) as server:
        with Client(
            server.url,
            tls=TLS(root_certificates=pem["authority"], certificate=pem["client"], private_key=pem["client_key"]),
        ) as client:
            assert client.detect(slices(0.75)[0]).tumor_probability == pytest.approx(0.75)
        with (
            Client(server.url, tls=TLS(root_certificates=pem["authority"])) as client,
            pytest.raises(ServerUnavailableError),
        ):
            client.detect(slices(0.75)[0])


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"token": "a"}, "over TLS only"),
        ({"tls_certificate": "server"}, "go together"),
        ({"tls_private_key": "server_key"}, "go together"),
        ({"tls_client_authority": "authority"}, "over TLS only"),
        ({"tls_certificate": "server", "tls_private_key": "client_key"}, "cannot be used for TLS"),
        ({"tls_certificate": "absent", "tls_private_key": "server_key"}, "cannot be used for TLS"),
        ({"tls_certificate": "server", "tls_private_key": "server_key", "token": "a b"}, "expected printable ASCII"),
        ({"tls_certificate": "server", "tls_private_key": "server_key", "token": ""}, "at least a character"),
    ],
)
def test_tls_that_makes_no_sense_is_refused_at_once(tiny_repository, pem, options, reason):
    given = {name: pem.get(value, value) if name.startswith("tls") else value for name, value in options.items()}
    with pytest.raises(ValueError, match=reason):
        EmbeddedServer(tiny_repository, **given)


def test_it_listens_on_ipv6(tiny_repository):
    with EmbeddedServer(tiny_repository, host="::1") as server, Client(server.url) as client:
        assert server.url.startswith("[::1]:")
        assert client.detect(slices(0.75)[0]).tumor_probability == pytest.approx(0.75)
        with urllib.request.urlopen(server.metrics_url, timeout=10) as response:
            assert response.status == 200


def test_nobody_else_s_port_is_shared(closed_server, tiny_repository):
    port = int(closed_server.url.rpartition(":")[2])
    with pytest.raises(Exception, match=f"port {port}: .*in use"):
        EmbeddedServer(tiny_repository, grpc_port=port).start()


def test_connections_that_say_nothing_keep_nobody_out_of_grpc(closed_server):
    host, port = address_of(closed_server.metrics_url)
    silent = [socket.create_connection((host, port), timeout=10) for _ in range(200)]
    try:
        with Client(closed_server.url) as client:
            assert client.detect(slices(0.75)[0]).tumor_probability == pytest.approx(0.75)
    finally:
        for connection in silent:
            connection.close()


def test_streams_are_closed(closed_server):
    with grpc.insecure_channel(closed_server.url) as channel, pytest.raises(grpc.RpcError) as error:
        list(service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelStreamInfer(iter(()), timeout=10))

    assert error.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert "ModelStreamInfer is closed on an embedded server" in error.value.details()


@pytest.mark.parametrize("words", ["Stub process 'brain_tumor_0_0' is not healthy", "Server exiting"])
@pytest.mark.parametrize("field", ["model_name", "model_version", "id"])
def test_no_words_of_a_stranger_have_triton_started_again(tiny_repository, field, words):
    request = service_pb2.ModelInferRequest(**{"model_name": contract.ENSEMBLE.name, field: words})
    request.inputs.add(name=words, datatype="UINT8", shape=[1, 256, 256, 3])
    request.outputs.add(name=words)
    request.raw_input_contents.append(bytes(196608))
    events = []
    with (
        EmbeddedServer(tiny_repository, restart=True, on_event=events.append) as server,
        grpc.insecure_channel(server.url) as channel,
    ):
        for _ in range(3):
            with pytest.raises(grpc.RpcError):
                service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=10)
        with Client(server.url) as client:
            assert client.detect(slices(0.75)[0]).detected
        time.sleep(1)
    assert events == []


def read_if_there(path):
    with contextlib.suppress(OSError):
        return path.read_bytes()
    return b""


def processes_of(server):
    """The numbers of the processes that serve: Triton and its models' by the server's name, and the proxies."""
    with urllib.request.urlopen(f"{server.http_url}/v2", timeout=10) as response:
        name = json.load(response)["name"].encode()
    return [
        int(folder.name)
        for folder in Path("/proc").glob("[0-9]*")
        if any(each in read_if_there(folder / "cmdline") for each in (name, b"import importlib.util, sys"))
    ]


def memory_mib(pid, measure):
    """What a process has resident, `VmRSS`, or had at most, `VmHWM`."""
    for line in read_if_there(Path(f"/proc/{pid}/status")).decode().splitlines():
        if line.startswith(f"{measure}:"):
            return int(line.split()[1]) / 1024
    return 0.0

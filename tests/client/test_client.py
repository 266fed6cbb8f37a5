"""The client where a server is in trouble, as a healthy Triton never is."""

import gc
import multiprocessing
import pickle
import weakref
from contextlib import closing
from importlib.metadata import version

import grpc
import numpy as np
import pytest
import trustme
from support.troubled_triton import troubled_triton
from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput

import gliogate
from gliogate import (
    TLS,
    AuthenticationError,
    Client,
    DeadlineExceededError,
    ForkedClientError,
    InvalidRequestError,
    ModelNotReadyError,
    RequestError,
    Retries,
    ServerUnavailableError,
)
from gliogate.contract import ENSEMBLE, IMAGE, SEGMENTER

SLICE = np.zeros((256, 256, 3), np.uint8)
OUTPUTS = ["tumor_probability", "tumor_mask", "segmented", "certainty", "reliability"]
"""What an analysis asks for."""


@pytest.fixture
def triton(triton):
    triton.failures = 1000
    return triton


@pytest.fixture
def client(triton):
    with Client(triton.url) as client:
        yield client


def test_a_request_is_sent_again_when_the_server_was_unavailable(client, triton):
    triton.failures = 2

    assert client.analyze(SLICE).verdict == "no tumor"
    assert len({request.id for request in triton.requests}) == 1
    assert len(triton.requests) == 3


def test_an_overloaded_server_is_told_from_an_absent_one(client):
    with pytest.raises(ServerUnavailableError, match=r"overloaded .*: try again, with fewer requests") as caught:
        client.analyze(SLICE)

    assert caught.value.may_retry


@pytest.mark.parametrize("status", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INTERNAL])
def test_a_model_that_is_not_ready_is_named(client, triton, status):
    triton.status, triton.not_ready = status, (SEGMENTER.name,)

    assert not client.is_ready()
    with pytest.raises(ModelNotReadyError, match=f"{SEGMENTER.name} not ready at {triton.url}") as caught:
        client.analyze(SLICE)
    with pytest.raises(ModelNotReadyError, match=SEGMENTER.name):
        client.wait_until_ready(timeout_s=0)

    assert caught.value.status == status.name
    assert caught.value.may_retry


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, InvalidRequestError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, RequestError),
        (grpc.StatusCode.DEADLINE_EXCEEDED, DeadlineExceededError),
        (grpc.StatusCode.INTERNAL, RequestError),
        (grpc.StatusCode.CANCELLED, RequestError),
    ],
)
def test_every_other_status_has_its_error_and_is_not_tried_again(client, triton, status, kind):
    triton.status = status

    with pytest.raises(RequestError, match=triton.url) as caught:
        client.analyze(SLICE)

    assert type(caught.value) is kind
    assert caught.value.status == status.name
    assert caught.value.url == triton.url
    assert [request.id for request in triton.requests] == [caught.value.request_id]


def test_only_what_is_asked_for_is_sent(client, triton):
    triton.failures = 0

    client.analyze(SLICE, detection_threshold=1, gate="never")

    (request,) = triton.requests
    assert [output.name for output in request.outputs] == OUTPUTS
    assert request.parameters["detection_threshold"].double_param == 1.0
    assert request.parameters["gate"].string_param == "never"
    assert "mask_threshold" not in request.parameters


def test_what_is_sent_is_what_nvidias_client_would_send(client, triton):
    triton.failures = 0
    picture = np.random.default_rng(0).integers(0, 256, IMAGE.shape, np.uint8)
    tensor = InferInput(IMAGE.name, (1, *IMAGE.shape), IMAGE.dtype)
    tensor.set_data_from_numpy(picture[np.newaxis])

    client.analyze(picture, detection_threshold=0.3, request_id="study-7", timeout_s=2)
    with closing(InferenceServerClient(triton.url)) as bare:
        bare.infer(
            ENSEMBLE.name,
            [tensor],
            outputs=[InferRequestedOutput(name) for name in OUTPUTS],
            request_id="study-7",
            timeout=1_000_000,
            parameters={"detection_threshold": 0.3, "gate": "auto"},
        )

    ours, theirs = triton.requests
    assert ours == theirs


def test_without_retries_a_request_is_sent_once(triton):
    with Client(triton.url, retries=Retries(attempts=1)) as client, pytest.raises(ServerUnavailableError):
        client.analyze(SLICE)

    assert len(triton.requests) == 1


def test_a_server_in_trouble_is_not_hit_harder(triton):
    """Half of the budget is spent on failures, and what is refused from then on is sent once."""
    with Client(triton.url, retries=Retries(attempts=5, initial_backoff_s=0.01, budget=10)) as client:
        for _ in range(10):
            with pytest.raises(ServerUnavailableError):
                client.analyze(SLICE)

    assert 10 <= len(triton.requests) < 20


def test_metadata_goes_along_and_a_request_has_the_id_that_it_was_given(triton):
    triton.failures = 0

    with Client(triton.url, metadata={"x-site": "ward-3"}, compression="gzip") as client:
        assert client.analyze(SLICE, request_id="study-7").request_id == "study-7"

    assert triton.requests[0].id == "study-7"
    assert triton.metadata[0]["x-site"] == "ward-3"


def test_the_server_hears_of_the_deadline(client, triton):
    triton.failures = 0

    client.analyze(SLICE, timeout_s=2)

    # Half of it may pass before the server begins.
    assert triton.requests[0].parameters["timeout"].int64_param == 1_000_000


def test_options_hold_for_one_call_and_the_client_stays_as_it_is(client, triton):
    triton.failures = 0

    client.with_options(gate="never", timeout_s=5).analyze(SLICE)
    client.analyze(SLICE)
    client.with_options(gate="never").detect(SLICE)

    assert [r.parameters["gate"].string_param for r in triton.requests] == ["never", "auto", ""]
    assert [r.parameters["timeout"].int64_param for r in triton.requests] == [2_500_000, 30_000_000, 30_000_000]


def test_an_option_that_there_is_none_of_is_named(client):
    with pytest.raises(TypeError, match="unexpected option 'timeot_s'"):
        client.with_options(timeot_s=2)


@pytest.mark.parametrize("in_flight", [0, -1, 1.5, float("nan"), "4", None, 129, 10000])
def test_as_many_at_a_time_as_can_be_counted(client, in_flight):
    with pytest.raises(
        ValueError, match=f"in_flight is {in_flight!r}, expected a whole number from 1 to 128: one server lets 128"
    ):
        client.analyze_many([SLICE], in_flight=in_flight)


@pytest.mark.parametrize(
    ("url", "most"),
    [("a:1", 128), ("127.0.0.1:1,127.0.0.1:2,127.0.0.1:3", 384), ("dns:///a:1", 1024), (["127.0.0.1:1"] * 20, 1024)],
)
def test_as_many_at_a_time_as_the_servers_let_wait(url, most):
    with Client(url) as client:
        client.analyze_many([SLICE], in_flight=most)
        with pytest.raises(ValueError, match=f"in_flight is {most + 1}, expected a whole number from 1 to {most}"):
            client.analyze_many([SLICE], in_flight=most + 1)
        with pytest.raises(ValueError, match=f"in_flight is {most + 1}"):
            client.analyze_volume("absent.nii", in_flight=most + 1)


def test_errors_that_are_kept_keep_no_pictures(client, triton):
    triton.failures, triton.status = 2, grpc.StatusCode.INVALID_ARGUMENT
    pictures = [SLICE.copy() for _ in range(2)]
    alive = [weakref.ref(picture) for picture in pictures]

    errors = list(client.analyze_many(iter(pictures), on_error="return"))
    del pictures
    gc.collect()

    assert [type(error) for error in errors] == [InvalidRequestError] * 2
    assert [reference() for reference in alive] == [None, None]


def test_an_id_that_is_no_text_is_refused(client):
    with pytest.raises(ValueError, match=r"request_id is 'scan-\\udcff', expected text"):
        client.analyze(SLICE, request_id="scan-\udcff")


def test_closing_one_closes_those_made_of_it(client):
    other = client.with_options(timeout_s=5)
    client.close()

    with pytest.raises(Exception, match="was closed"):
        other.analyze(SLICE)


@pytest.mark.parametrize("timeout_s", [0, -1, float("nan"), float("inf")])
def test_a_timeout_that_is_none_is_refused(client, timeout_s):
    with pytest.raises(ValueError, match="timeout_s is"):
        client.analyze(SLICE, timeout_s=timeout_s)


def test_several_servers_share_the_requests_and_one_that_is_gone_is_passed_by(triton):
    triton.failures = 0
    with troubled_triton() as other, Client([triton.url, other.url]) as client:
        client.wait_until_ready()
        for _ in range(10):
            client.analyze(SLICE)
        assert len(triton.requests) == len(other.requests) == 5
        other.failures = 1000

        for _ in range(10):
            client.analyze(SLICE)
    assert len(triton.requests) == 15


def test_the_version_is_the_distributions():
    assert gliogate.__version__ == version("gliogate")
    assert "__version__" not in vars(gliogate)  # Looking it up would slow every import.
    with pytest.raises(AttributeError, match="no attribute '__versions__'"):
        gliogate.__versions__  # noqa: B018


@pytest.mark.parametrize(
    "options",
    [
        {"timeout_s": None},
        {"timeout_s": True},
        {"request_id": 5},
        {"detection_threshold": True},
        {"mask_threshold": "half"},
        {"gate": None},
    ],
)
def test_an_option_of_a_wrong_type_is_named(client, triton, options):
    [(name, value)] = options.items()
    with pytest.raises(ValueError, match=f"{name} is {value!r}, expected"):
        client.analyze(SLICE, **options)
    assert not triton.requests


def test_errors_come_back_from_other_processes_as_they_were(client):
    with pytest.raises(ServerUnavailableError) as caught:
        client.analyze(SLICE)
    error = pickle.loads(pickle.dumps(caught.value))  # noqa: S301  our own

    assert type(error) is ServerUnavailableError
    assert (str(error), vars(error)) == (str(caught.value), vars(caught.value))


def _use(client, answers):
    try:
        client.analyze(SLICE)
    except ForkedClientError as error:
        answers.put(str(error))
    client.close()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_is_told_so_and_does_not_hang(client, triton):
    triton.failures = 0
    client.analyze(SLICE)
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    child = context.Process(target=_use, args=(client, answers))
    child.start()
    child.join(20)

    assert child.exitcode == 0
    assert "make one after the fork" in answers.get()
    assert client.analyze(SLICE).verdict == "no tumor"


class Certificates:
    """One authority, a server's certificate and a client's, in files."""

    def __init__(self, folder) -> None:
        authority = trustme.CA()
        self.server, client = authority.issue_cert("127.0.0.1"), authority.issue_cert("ward-3")
        self.root, self.certificate, self.key, self.other_root = (
            folder / name for name in ("root.pem", "client.pem", "key.pem", "other.pem")
        )
        authority.cert_pem.write_to_path(self.root)
        client.cert_chain_pems[0].write_to_path(self.certificate)
        client.private_key_pem.write_to_path(self.key)
        trustme.CA().cert_pem.write_to_path(self.other_root)

    def credentials(self, *, mutual: bool) -> grpc.ServerCredentials:
        pair = (self.server.private_key_pem.bytes(), self.server.cert_chain_pems[0].bytes())
        root = self.root.read_bytes() if mutual else None
        return grpc.ssl_server_credentials([pair], root, require_client_auth=mutual)


@pytest.fixture
def certificates(tmp_path):
    return Certificates(tmp_path)


def test_tls_reaches_a_server_of_the_named_authority_and_no_other(certificates):
    with troubled_triton(certificates.credentials(mutual=False)) as triton:
        with Client(triton.url, tls=TLS(root_certificates=certificates.root)) as client:
            assert client.analyze(SLICE).verdict == "no tumor"
        with Client(triton.url, tls=TLS(root_certificates=certificates.other_root)) as client:
            assert not client.is_ready()
            with pytest.raises(ServerUnavailableError, match=f"no Triton answers gRPC at {triton.url}"):
                client.analyze(SLICE, timeout_s=5)
        with Client(triton.url) as client, pytest.raises(ServerUnavailableError):
            client.analyze(SLICE, timeout_s=5)


def test_mutual_tls_lets_in_who_has_a_certificate(certificates):
    with troubled_triton(certificates.credentials(mutual=True)) as triton:
        mine = TLS(
            root_certificates=certificates.root, certificate=certificates.certificate, private_key=certificates.key
        )
        with Client(triton.url, tls=mine) as client:
            assert client.is_ready()
        with Client(triton.url, tls=TLS(root_certificates=certificates.root)) as client:
            assert not client.is_ready()


def test_a_token_lets_in_and_without_one_the_error_says_so_at_once(certificates):
    with troubled_triton(certificates.credentials(mutual=False)) as triton:
        triton.token = "open sesame"  # noqa: S105
        tls = TLS(root_certificates=certificates.root)
        with Client(triton.url, tls=tls, token=lambda: "open sesame") as client:
            client.wait_until_ready()
            assert client.analyze(SLICE).verdict == "no tumor"
        with Client(triton.url, tls=tls, token="expired") as client:  # noqa: S106
            with pytest.raises(AuthenticationError, match="does not let this client in: no token") as caught:
                client.analyze(SLICE)
            assert caught.value.status == "UNAUTHENTICATED"
            with pytest.raises(AuthenticationError):
                client.wait_until_ready(timeout_s=60)

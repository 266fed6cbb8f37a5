"""The wire contract as strangers speak it: a plain `tritonclient`, urllib and curl, knowing only the table's names."""

import json
import shutil
import subprocess
import urllib.error
import urllib.request

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from support.tiny_networks import slices

from gliogate import contract

SIZES = {"tumor_probability": 1, "tumor_mask": 65_536, "mask_probability": 65_536, "segmented": 1, "thresholds": 2}
SIZES |= {"certainty": 1, "reliability": 5}


def body(*levels, **fields):
    images = slices(*levels)
    image = {"name": "image", "datatype": "UINT8", "shape": list(images.shape), "data": images.ravel().tolist()}
    return json.dumps({"inputs": [image], **fields}).encode()


def post(server, content):
    """Returns status and JSON, of errors too."""
    request = urllib.request.Request(f"{server.http_url}/v2/models/brain_tumor/infer", data=content)
    try:
        with urllib.request.urlopen(request) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


@pytest.mark.parametrize("model", contract.MODELS, ids=lambda model: model.name)
def test_the_server_describes_the_contract(tiny_server, model):
    with urllib.request.urlopen(f"{tiny_server.http_url}/v2/models/{model.name}") as response:
        metadata = json.load(response)

    batch = [] if model is contract.VOLUME else [-1]

    def tensors(described):
        return [(tensor["name"], tensor["datatype"], tensor["shape"]) for tensor in described]

    def of_contract(asked):
        return [(tensor.name, tensor.dtype, [*batch, *tensor.shape]) for tensor in asked]

    assert tensors(metadata["inputs"]) == of_contract(model.inputs)
    assert tensors(metadata["outputs"]) == of_contract(model.outputs)


def test_a_plain_grpc_client_gets_the_same_alone_and_in_a_batch_of_sixteen(shipped_server):
    images = np.random.default_rng(7).integers(0, 256, (16, 256, 256, 3), np.uint8)
    client = tritonclient.grpc.InferenceServerClient(shipped_server.url)

    def ask(images):
        image = tritonclient.grpc.InferInput("image", list(images.shape), "UINT8")
        image.set_data_from_numpy(images)
        return client.infer("brain_tumor", [image], parameters={"gate": "always"})

    together = ask(images)
    for row in (0, 7, 15):
        alone = ask(images[row : row + 1])
        for name in ("tumor_probability", "mask_probability"):
            np.testing.assert_allclose(alone.as_numpy(name)[0], together.as_numpy(name)[row], atol=1e-4)
    assert together.as_numpy("tumor_mask").dtype == np.uint8
    assert together.as_numpy("segmented").all()
    client.close()


def test_a_plain_http_client_sends_and_gets_binary(tiny_server):
    client = tritonclient.http.InferenceServerClient(tiny_server.http_url.removeprefix("http://"))
    image = tritonclient.http.InferInput("image", [2, 256, 256, 3], "UINT8")
    image.set_data_from_numpy(slices(0.25, 0.75))
    result = client.infer("brain_tumor", [image], parameters={"mask_threshold": 0.5})

    assert result.as_numpy("tumor_probability").tolist() == [[0.25], [0.75]]
    assert result.as_numpy("tumor_mask").mean(axis=(1, 2)).tolist() == [0.0, 0.75]
    client.close()


def test_json_over_http_names_no_outputs_and_gets_all(tiny_server):
    status, answer = post(tiny_server, body(0.75))

    outputs = {output["name"]: output for output in answer["outputs"]}
    assert status == 200
    assert {name: len(output["data"]) for name, output in outputs.items()} == SIZES
    assert outputs["tumor_probability"]["data"] == [0.75]
    assert outputs["segmented"]["data"] == [True]
    assert sum(outputs["tumor_mask"]["data"]) == 0.75 * 256 * 256


def test_json_over_http_takes_outputs_parameters_and_an_id(tiny_server):
    content = body(
        0.25, id="slice 7", outputs=[{"name": "segmented"}], parameters={"detection_threshold": 0.25, "gate": "auto"}
    )
    status, answer = post(tiny_server, content)

    assert (status, answer["id"]) == (200, "slice 7")
    assert [(output["name"], output["data"]) for output in answer["outputs"]] == [("segmented", [True])]


@pytest.mark.parametrize(
    "parameters", [{"timeout": 5_000_000}, {"priority": 0}, {"binary_data_output": False}, {"sequence_id": 3}]
)
def test_parameters_that_are_triton_s_own_are_not_the_gate_s_to_refuse(tiny_server, parameters):
    status, _ = post(tiny_server, body(0.25, parameters=parameters))

    assert status == 200


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"parameters": {"detection_threshold": 2}}, "detection_threshold is 2, expected a number from 0 to 1"),
        ({"parameters": {"treshold": 0.5}}, "unknown parameter 'treshold'"),
        ({"outputs": [{"name": "mask"}]}, "unexpected inference output 'mask' for model 'brain_tumor'"),
        ({"inputs": []}, "expected 1 inputs but got 0"),
    ],
)
def test_a_request_that_breaks_the_contract_is_status_400_with_the_reason(tiny_server, fields, reason):
    status, answer = post(tiny_server, body(0.25, **fields) if "inputs" not in fields else json.dumps(fields).encode())

    assert status == 400
    assert reason in answer["error"]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_gets_the_same(tiny_server, tmp_path):
    (tmp_path / "request.json").write_bytes(body(0.75, outputs=[{"name": "tumor_probability"}]))
    url = f"{tiny_server.http_url}/v2/models/brain_tumor/infer"
    curl = subprocess.run(
        ["curl", "--silent", "--show-error", "--fail", "--data", "@request.json", url],
        cwd=tmp_path,
        capture_output=True,
        check=True,
    )

    assert json.loads(curl.stdout)["outputs"] == [
        {"name": "tumor_probability", "datatype": "FP32", "shape": [1, 1], "data": [0.75]}
    ]

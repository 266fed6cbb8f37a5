"""Every `config.pbtxt`, and every variant of it, against the wire contract."""

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from gliogate import contract
from gliogate.embedded import find_model_repository

REPOSITORY = find_model_repository()
CONFIGS = [
    pytest.param(model, path, id=str(path.relative_to(REPOSITORY)))
    for model in contract.MODELS
    for path in sorted((REPOSITORY / model.name).rglob("*.pbtxt"))
]


def read(path):
    return text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())


def tensors(configured):
    return tuple(
        contract.Tensor(
            tensor.name, model_config_pb2.DataType.Name(tensor.data_type).removeprefix("TYPE_"), tuple(tensor.dims)
        )
        for tensor in configured
    )


def test_the_repository_holds_the_models_of_the_contract_and_no_other():
    folders = {path.name for path in REPOSITORY.iterdir() if path.is_dir()}

    assert folders == {model.name for model in contract.MODELS}
    assert {param.values[1] for param in CONFIGS} >= {
        REPOSITORY / model.name / "config.pbtxt" for model in contract.MODELS
    }


@pytest.mark.parametrize(("model", "path"), CONFIGS)
def test_names_types_and_shapes_are_the_contract_s(model, path):
    config = read(path)

    assert config.name == model.name
    assert config.backend == model.backend
    assert tensors(config.input) == model.inputs
    assert tensors(config.output) == model.outputs


@pytest.mark.parametrize(("model", "path"), CONFIGS)
def test_every_model_batches_and_refuses_rather_than_queues_for_ever(model, path):
    config = read(path)

    assert config.HasField("dynamic_batching")
    assert 0 < config.dynamic_batching.default_queue_policy.max_queue_size <= 1024
    if model is contract.ENSEMBLE:
        assert config.dynamic_batching.default_queue_policy.default_timeout_microseconds > 0
        # What the gate waits for companions is part of every answer's latency.
        assert config.dynamic_batching.max_queue_delay_microseconds <= 5_000


def test_the_networks_take_whatever_batch_the_gate_hands_on():
    rows = {param.id: read(param.values[1]).max_batch_size for param in CONFIGS}
    gate = max(count for path, count in rows.items() if path.startswith(contract.ENSEMBLE.name))

    assert gate > 1
    assert {path: count for path, count in rows.items() if count < gate} == {}

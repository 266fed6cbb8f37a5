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
def test_the_gate_batches_and_refuses_rather_than_queues_for_ever_and_the_networks_take_what_comes(model, path):
    config = read(path)

    if model is contract.VOLUME:
        # Of a head that waits there are 50 MB. Without a batch dimension, heads are not joined.
        assert config.max_batch_size == 0
        assert 0 < config.dynamic_batching.default_queue_policy.max_queue_size <= 16
        assert config.dynamic_batching.default_queue_policy.default_timeout_microseconds > 0
        return
    if model is not contract.ENSEMBLE:
        # Triton's batcher sleeps for half a second now and then, with requests in its queue.
        assert not config.HasField("dynamic_batching")
        return
    assert config.dynamic_batching.default_queue_policy.max_queue_size == contract.QUEUE_SIZE
    assert config.dynamic_batching.default_queue_policy.default_timeout_microseconds > 0
    # What the gate waits for companions is part of every answer's latency.
    assert config.dynamic_batching.max_queue_delay_microseconds <= 5_000


@pytest.mark.parametrize(("model", "path"), CONFIGS)
def test_only_the_gate_which_joins_requests_sees_a_dimension_more(model, path):
    """By which it tells a request without rows; see `slices_of` in gate/gating.py."""
    image, *_ = read(path).input

    assert list(image.reshape.shape) == ([1, *contract.IMAGE.shape] if model is contract.ENSEMBLE else [])


def test_the_networks_take_whatever_batch_the_gate_hands_on():
    rows = {param.id: read(param.values[1]).max_batch_size for param in CONFIGS}
    gate = max(count for path, count in rows.items() if path.startswith(contract.ENSEMBLE.name))
    heads = [
        int(read(path).parameters["rows_at_once"].string_value)
        for path in (REPOSITORY / contract.VOLUME.name).rglob("*.pbtxt")
    ]

    assert gate > 1
    assert max(heads) <= gate
    networks = {path: count for path, count in rows.items() if not path.startswith(contract.VOLUME.name)}
    assert {path: count for path, count in networks.items() if count < gate} == {}


@pytest.mark.parametrize("model", [contract.DETECTOR, contract.SEGMENTER], ids=lambda model: model.name)
def test_every_version_has_the_files_that_the_configurations_name(model):
    folder = REPOSITORY / model.name
    names = {read(path).default_model_filename or "model.onnx" for path in folder.rglob("*.pbtxt")}

    assert names == {"model.onnx", "model_cpu.onnx", "model_gpu.onnx"}
    for version in folder.glob("[0-9]*"):
        assert names <= {path.name for path in version.iterdir()}


@pytest.mark.parametrize("model", contract.MODELS, ids=lambda model: model.name)
def test_a_gpu_changes_where_and_how_it_runs_and_nothing_else(model):
    cpu, gpu = (read(REPOSITORY / model.name / name) for name in ("config.pbtxt", "configs/gpu.pbtxt"))

    on_cpu, on_gpu = model_config_pb2.ModelInstanceGroup.KIND_CPU, model_config_pb2.ModelInstanceGroup.KIND_GPU
    assert [group.kind for group in cpu.instance_group] == [on_cpu]
    # Heads lie in the host's memory, wherever the networks are.
    assert [group.kind for group in gpu.instance_group] == [on_cpu if model is contract.VOLUME else on_gpu]
    for config in (cpu, gpu):
        for field in ("instance_group", "optimization", "default_model_filename", "model_warmup"):
            config.ClearField(field)
    # A GPU is faster with more slices, a CPU hardly is.
    if model is contract.ENSEMBLE:
        assert "rows_at_once" not in gpu.parameters
    for config in (cpu, gpu):
        config.parameters.pop("rows_at_once", None)
    if model is contract.ENSEMBLE:
        gpu.dynamic_batching.ClearField("max_queue_delay_microseconds")
    assert cpu == gpu


@pytest.mark.parametrize("model", contract.MODELS, ids=lambda model: model.name)
def test_a_part_of_a_gpu_has_one_instance_of_what_is_on_it_and_differs_in_nothing_else(model):
    whole, part = (read(REPOSITORY / model.name / "configs" / f"{name}.pbtxt") for name in ("gpu", "gpu_share"))

    # The model for heads takes none of the GPU's memory.
    fewer = 2 if model is contract.VOLUME else 1
    assert [[group.count for group in config.instance_group] for config in (whole, part)] == [[2], [fewer]]
    part.instance_group[0].count = 2
    assert whole == part


@pytest.mark.parametrize("model", [contract.DETECTOR, contract.SEGMENTER], ids=lambda model: model.name)
def test_32_bits_are_another_file_in_onnx_runtime_and_nothing_else(model):
    in_8_bits, in_32_bits = (read(REPOSITORY / model.name / name) for name in ("config.pbtxt", "configs/fp32.pbtxt"))

    [accelerator] = in_8_bits.optimization.execution_accelerators.cpu_execution_accelerator
    assert accelerator.name == "openvino"
    assert (in_8_bits.default_model_filename, in_32_bits.default_model_filename) == ("model_cpu.onnx", "")
    in_8_bits.ClearField("default_model_filename")
    in_8_bits.ClearField("optimization")
    assert in_8_bits == in_32_bits


@pytest.mark.parametrize("name", ["config.pbtxt", "configs/fp32.pbtxt"])
@pytest.mark.parametrize("model", [contract.DETECTOR, contract.SEGMENTER], ids=lambda model: model.name)
def test_a_cpu_is_warmed_up_with_what_the_gate_will_ask(model, name):
    gate = read(REPOSITORY / contract.ENSEMBLE.name / "config.pbtxt")

    sizes = [warmup.batch_size for warmup in read(REPOSITORY / model.name / name).model_warmup]

    assert sizes == [int(gate.parameters["rows_at_once"].string_value), 1]


@pytest.mark.parametrize("model", [contract.DETECTOR, contract.SEGMENTER], ids=lambda model: model.name)
def test_one_engine_of_tensorrt_takes_every_batch(model):
    config = read(REPOSITORY / model.name / "configs" / "gpu.pbtxt")
    [accelerator] = config.optimization.execution_accelerators.gpu_execution_accelerator
    settings = dict(accelerator.parameters)
    shapes = {
        edge: settings[f"trt_profile_{edge}_shapes"].removeprefix(f"{contract.IMAGE.name}:").split("x")
        for edge in ("min", "opt", "max")
    }

    assert accelerator.name == "tensorrt"
    # The graph says the types; with a flag TensorRT 10 would choose others, and TensorRT 11 has none.
    assert "precision_mode" not in settings
    assert config.default_model_filename == "model_gpu.onnx"
    assert {tuple(map(int, shape[1:])) for shape in shapes.values()} == {contract.IMAGE.shape}
    assert int(shapes["min"][0]) == 1
    assert int(shapes["max"][0]) == config.max_batch_size

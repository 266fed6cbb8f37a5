"""What a pod takes of a GPU: what a graph says, and that docs/operations.md and the chart say the same."""

import itertools
import re

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from deploy.gpu_memory import INSTANCES, Network, main, read_network
from gliogate.contract import NEEDED

KILO = 1024


def make_network(path, *, batch="batch"):
    """A slice of 1024 bytes, made float, doubled, and both added: three tensors of 4096 bytes are alive at the end."""
    two = numpy_helper.from_array(np.full(1, 2, np.float32), "two")
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["float", "two"], ["double"]),
        helper.make_node("Add", ["float", "double"], ["sum"]),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [batch, KILO])],
        [helper.make_tensor_value_info("sum", TensorProto.FLOAT, [batch, KILO])],
        [two],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_what_is_alive_at_the_same_time_is_counted(tmp_path):
    network = read_network(make_network(tmp_path / "model.onnx"), batch=8)

    assert network == Network(weights=4, activations=8 * 3 * 4 * KILO)


@pytest.fixture(scope="module")
def page(chart_folder):
    return (chart_folder.parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")


def test_the_page_has_what_the_command_prints(page, capsys):
    assert main([]) == 0
    networks, table = capsys.readouterr().out.split("\n\n")

    assert table in page
    activations = re.findall(r"activations (\d+) MiB", networks)
    assert "{} MiB in the detector and {} in the segmenter".format(*activations) in " ".join(page.split())


def test_there_are_as_many_instances_as_it_counts(shipped_repository):
    for model, (name, instances) in itertools.product(NEEDED, INSTANCES.items()):
        configuration = (shipped_repository / model.name / "configs" / f"{name}.pbtxt").read_text()
        assert re.findall(r"kind: KIND_GPU count: (\d+)", configuration) == [str(instances)], model.name
        assert re.findall(r"^max_batch_size: (\d+)", configuration, re.MULTILINE) == ["32"], model.name


def test_a_slice_that_the_chart_takes_has_room_for_it(page, capsys):
    main([])
    ((whole, part),) = re.findall(r"while engines are built \| (\d+) \| (\d+)", capsys.readouterr().out)

    # test_values has what it refuses.
    assert "**a pod needs 6 GB, or 4 GB on a part of a GPU**" in page
    assert int(whole) * 2**20 * 1.2 < 6e9
    assert int(part) * 2**20 * 1.2 < 4e9
    assert int(part) * 2**20 > 3e9

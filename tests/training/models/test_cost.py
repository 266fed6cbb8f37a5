"""Arithmetic that can be counted by hand."""

import keras
import pytest

from training.models.cost import multiply_adds


def network(size: int | None, *layers: keras.layers.Layer) -> keras.Model:
    return keras.Sequential([keras.Input((size, size, 3)), *layers])


def test_each_kind_of_layer() -> None:
    counted = network(
        8,
        keras.layers.Conv2D(4, 3, padding="same"),  # 8·8 positions, 3·3·3·4 values
        keras.layers.BatchNormalization(),
        keras.layers.DepthwiseConv2D(3, strides=2, padding="same"),  # 4·4 positions, 3·3·4 values
        keras.layers.Conv2D(6, 1, groups=2),  # 4·4 positions, 2·6 values
        keras.layers.Conv2DTranspose(2, 2, strides=2),  # 4·4 positions, 2·2·6·2 values
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(5),  # 2·5 values
    )
    assert multiply_adds(counted) == 64 * 108 + 16 * 36 + 16 * 12 + 16 * 48 + 10


def test_resnet50_costs_what_its_paper_says() -> None:
    """3.8 billion, Table 1 of arXiv:1512.03385; Keras strides in a block's first convolution, as the paper does."""
    assert multiply_adds(keras.applications.ResNet50(weights=None)) == pytest.approx(3.8e9, rel=0.03)


def test_a_network_for_any_size_cannot_be_counted() -> None:
    with pytest.raises(ValueError, match="must be built for one size"):
        multiply_adds(network(None, keras.layers.Conv2D(4, 3, name="convolution")))


def test_what_it_cannot_count_is_not_free() -> None:
    with pytest.raises(TypeError, match="how to count a SeparableConv2D is not known"):
        multiply_adds(network(8, keras.layers.SeparableConv2D(4, 3)))

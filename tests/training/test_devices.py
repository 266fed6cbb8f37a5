"""In which precision a recipe is trained on which machine."""

import pytest

from gliogate import processor
from training import devices
from training.recipes import find

RECIPE = find("flagship")


@pytest.mark.parametrize(
    ("features", "gpus", "precision"),
    [
        ({"avx2"}, [], "float32"),
        ({"avx2", "avx512f"}, [], "float32"),
        ({"avx512_bf16"}, [], "mixed_bfloat16"),
        ({"amx_bf16"}, [], "mixed_bfloat16"),
        ({"avx2"}, ["GPU:0"], "mixed_bfloat16"),
    ],
)
def test_16_bits_are_for_what_computes_in_them(monkeypatch, features, gpus, precision):
    monkeypatch.setattr(processor, "features", lambda: frozenset(features))
    monkeypatch.setattr(devices, "gpus", lambda: gpus)

    assert RECIPE.precision == "auto"
    assert devices.precision_of(RECIPE) == precision


def test_who_asks_for_a_precision_gets_it(monkeypatch):
    monkeypatch.setattr(processor, "features", lambda: frozenset({"avx512_bf16"}))

    assert devices.precision_of(RECIPE.with_changes(["precision=float32"])) == "float32"
    assert devices.precision_of(RECIPE.with_changes(["precision=mixed_float16"])) == "mixed_float16"

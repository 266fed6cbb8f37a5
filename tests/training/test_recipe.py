"""Recipes as data: what they may say, and what becomes of a mistake."""

import json

import pytest

from training.errors import RecipeError
from training.fit import build
from training.models import NETWORKS
from training.recipe import Phase, Recipe, Stage
from training.recipes import DEFAULT, find, names
from training.train import check_recipe


@pytest.mark.parametrize("name", names())
def test_every_recipe_says_its_name_and_comes_back_from_json(name: str) -> None:
    recipe = find(name)
    assert recipe.name == name
    assert Recipe.from_json(json.loads(json.dumps(recipe.model_dump(mode="json")))) == recipe


@pytest.mark.parametrize("name", names())
def test_every_stage_learns_only_what_its_network_answers(name: str) -> None:
    for stage in find(name).stages.values():
        assert set(stage.losses) <= set(NETWORKS[stage.network](size=64, **stage.options).output)


def test_the_published_systems_are_there() -> None:
    assert DEFAULT in names()
    assert set(names()) >= {"resnet50-resunet", "clahe-resnet50-resunet", "resnet50-unet", "mobilenetv2-unet"}


def test_an_unknown_recipe_is_told_which_there_are() -> None:
    with pytest.raises(RecipeError, match=r"no recipe 'vgg16'; there are .*flagship"):
        find("vgg16")


def test_changes_reach_into_a_recipe() -> None:
    changes = ["validation=0.3", "stages.segmenter.losses.mask=dice + bce", "stages.segmenter.phases.0.epochs=2"]
    recipe = find("resnet50-resunet").with_changes([*changes, "stages.detector.options.dropout=0.5"])
    assert recipe.validation == 0.3
    assert recipe.stages["segmenter"].losses == {"mask": "dice + bce"}
    assert recipe.stages["segmenter"].phases[0].epochs == 2
    assert recipe.stages["detector"].options == {"dropout": 0.5}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("stages.segmenter.lr=1", "no key 'stages.segmenter.lr': after stages.segmenter come network, "),
        ("stages.third.batch_size=1", "no key 'stages.third.batch_size': after stages come detector, segmenter"),
        ("stages.segmenter.phases.7.epochs=1", "no key 'stages.segmenter.phases.7.epochs'"),
        ("stages.segmenter.losses.mask=lovasz", "stages.segmenter.losses: no loss 'lovasz'; there are bce, dice"),
        ("stages.segmenter.losses.edge=dice", "stages.segmenter.losses"),
        (
            "stages.segmenter.network=vgg16",
            "stages.segmenter.network: no network 'vgg16'; there are mobilenetv2_detector",
        ),
        (
            "stages.detector.options.filter=3",
            "stages.detector.options: no option filter of resnet50_detector; there are ",
        ),
        ("stages.segmenter.options.size=64", "stages.segmenter.options: no option size of resunet_segmenter"),
        ("stages.segmenter.batch_size=0", "stages.segmenter.batch_size: Input should be greater than 0"),
        ("stages.segmenter.phases.0.scale=0.3", "77 pixels; .* 32 must divide it"),
        ("validation=all", "validation: Input should be a valid number"),
        ("validation", "'validation': expected KEY=VALUE"),
        ('mirrored=["where"]', "mirrored"),
    ],
)
def test_a_change_that_cannot_be_is_one_clear_line(change: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        find("resnet50-resunet").with_changes([change])
    assert "\n" not in str(caught.value)


def test_weights_go_to_the_networks_that_can_start_from_some() -> None:
    recipe = find("resnet50-resunet").with_weights("imagenet")
    assert recipe.stages["detector"].options == {"weights": "imagenet"}
    assert recipe.stages["segmenter"].options == {}
    recipe = find("resunet-multitask")
    alone = recipe.model_copy(update={"stages": {"multitask": recipe.stages["multitask"]}})
    with pytest.raises(RecipeError, match="resunet-multitask: no network of it starts from other weights"):
        alone.with_weights("imagenet")


@pytest.mark.parametrize(("epochs", "expected"), [(40, (12, 28)), (10, (3, 7)), (3, (1, 2)), (1, (1,))])
def test_another_number_of_epochs_keeps_the_course_in_proportion(epochs: int, expected: tuple[int, ...]) -> None:
    phases = (Phase(epochs=6, scale=0.5), Phase(epochs=14))
    stage = Stage(network="resunet_multitask", losses={"mask": "dice"}, phases=phases).with_epochs(epochs)
    assert (stage.epochs, tuple(phase.epochs for phase in stage.phases)) == (epochs, expected)


def test_a_size_that_the_network_does_not_take_is_named_before_anything_is_trained() -> None:
    stage = Stage(
        network="resnet50_detector", losses={"tumor": "bce"}, phases=(Phase(epochs=1), Phase(epochs=1, window=96))
    )
    with pytest.raises(RecipeError, match="resnet50_detector takes no slices of 96 pixels"):
        build(stage, steps_per_epoch=1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["options.filters=abc"], "options: resunet_multitask cannot be built with {'filters': 'abc'}: "),
        (["options.filters=[4, 8, 8, 8]"], "options: resunet_multitask cannot be built with "),
        (
            ["options.filters=[4, 8, 8, 8]", "options.depths=[1, 1, 1, 1]"],
            "`where` of resunet_multitask has shape .*, expected ",
        ),
        (["network=resunet_segmenter", "options={}"], "losses: resunet_segmenter answers mask, not tumor, where"),
        (
            ["network=mobilenetv2_unet", 'losses={"mask": "bce"}', "options.weights=/nowhere.npz"],
            "/nowhere.npz: no such",
        ),
        (['losses={"tumor": "bce"}'], "no stage learns `mask`"),
    ],
)
def test_a_network_that_cannot_be_is_named_before_anything_is_trained(changes: list[str], message: str) -> None:
    recipe = find("resunet-multitask").with_changes(
        ["mirrored=[]", *(f"stages.multitask.{change}" for change in changes)]
    )
    with pytest.raises(RecipeError, match=f"recipe resunet-multitask: .*{message}") as caught:
        check_recipe(recipe, ["multitask"])
    assert "\n" not in str(caught.value)

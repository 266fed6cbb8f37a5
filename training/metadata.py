"""What a served version is, as data: `metadata.json` beside the version, and the model card that is made from it."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2

from gliogate.contract import ENSEMBLE, MODELS, SLICES, VOLUME, Model, Tensor
from training.errors import RunError

if TYPE_CHECKING:
    from training.rounding import Rounding
    from training.run import Run

FILE = "metadata.json"
PATIENTS = "patients.json"
"""Beside it: the counts of each patient that it was judged on, of single slices (`slices`) and of heads (`heads`)."""
CARD = "MODEL_CARD.md"

INTENDED_USE = (
    "Research on finding and outlining lower-grade gliomas in axial MRI slices, and on serving such networks. "
    "Research use only; not a medical device, not for diagnosis or treatment."
)
DATA = {
    "name": "LGG MRI segmentation (TCGA-LGG)",
    "source": "Buda, Saha, Mazurowski 2019, doi:10.1016/j.compbiomed.2019.05.002",
    "license": "CC BY-NC-SA 4.0",
    "labels": "masks outline the FLAIR abnormality",
}
MEANINGS = {
    "image": "a slice: channels pre-contrast, FLAIR, post-contrast, 0 to 255; a grey picture three times",
    "tumor_probability": "calibrated probability that the slice shows tumor, 0 to 1",
    "slice_spacing_mm": "millimetres from one slice to the next; 5 where it is left out",
    "mask_probability": "calibrated probability of tumor in each pixel, 0 to 1",
    "tumor_mask": "1 where there is tumor, 0 elsewhere; all 0 where the gate stayed shut",
    "segmented": "whether the gate opened",
    "certainty": "how well a strict outline agrees with a lax one: pixels of a probability from 0.7 for each from 0.1; "
    "0 where nothing is outlined",
    "reliability": "the certainty below which a mask is to be looked at; between which multiples of a head's outlined "
    "volume nine of ten true ones lie, low and high where it is certain, low and high where not; 0 where unknown",
    "thresholds": "of detection and of the mask, as the slice was judged: the operating point's, or the request's own",
}
"""Of each tensor on the wire."""


def describe(
    run: "Run",
    *,
    operating_point: dict[str, Any],
    operating_point_of_heads: dict[str, Any],
    scaling: dict[str, Any],
    cost: dict[str, Any],
    parity: dict[str, float],
    on_cpu: "dict[str, Rounding]",
    on_gpu: "dict[str, Rounding]",
    metrics: dict[str, Any],
) -> dict[str, Any]:
    """The content of `metadata.json`, but for what `NextVersion.describe` adds.

    Args:
        run: that the version comes from.
        operating_point: as the gate of single slices reads it.
        operating_point_of_heads: as the gate of heads reads it.
        scaling: what makes probabilities of either network's logits; it is part of the networks.
        cost: in parameters and arithmetic; see `training.export`.
        parity: for each network the largest difference between Keras and ONNX on real slices.
        on_cpu: for each network what became of it in 8 bits.
        on_gpu: the same in 16.
        metrics: what was measured, and how; see `training.export`.
    """
    environment = run.read_json(run.folder, "environment.json", written_by="train")
    return {
        "intended_use": INTENDED_USE,
        "license": "Apache-2.0 for the code; the weights were trained on data under CC BY-NC-SA 4.0",
        "tensors": tensors(),
        "data": DATA
        | {"training_patients": list(run.split.training), "validation_patients": list(run.split.validation)},
        "cost": cost,
        "parity": parity,
        "on_cpu": roundings(on_cpu),
        "on_gpu": roundings(on_gpu),
        "operating_point": operating_point,
        "operating_point_of_heads": operating_point_of_heads,
        "scaling": scaling,
        "metrics": metrics,
        "recipe": run.recipe.model_dump(mode="json"),
        # How it was called names folders of who trained it.
        "environment": {key: value for key, value in environment.items() if key != "command"},
    }


def roundings(by_network: "dict[str, Rounding]") -> dict[str, dict[str, Any]]:
    """What became of each network in fewer bits."""
    return {name: asdict(rounding) for name, rounding in by_network.items()}


def tensors() -> list[dict[str, Any]]:
    """What goes over the wire, as the contract has it."""
    return [
        {
            "model": model.name,
            "direction": direction,
            "name": tensor.name,
            "dtype": tensor.dtype,
            "shape": _told_shape(model, tensor),
            "meaning": MEANINGS[tensor.name],
        }
        for model in MODELS
        for direction, all_of_them in (("in", model.inputs), ("out", model.outputs))
        for tensor in all_of_them
    ]


def _told_shape(model: Model, tensor: Tensor) -> list[str | int]:
    batch: list[str | int] = [] if model is VOLUME else ["batch"]
    return [*batch, *("slices" if size == SLICES else size for size in tensor.shape)]


def hashes(repository: Path, version: int) -> dict[str, str]:
    """SHA-256 of every file of a version but the metadata, by its path in the repository."""
    files = sorted(path for path in repository.glob(f"*/{version}/**/*") if path.is_file())
    files = [path for path in files if path.name != FILE and path.parent.name != "__pycache__"]
    return {str(path.relative_to(repository)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def newest_metadata(repository: Path) -> tuple[int, dict[str, Any]]:
    """The version that is served, and its metadata.

    Raises:
        RunError: the repository has no version that `export` wrote.
    """
    versions = versions_of(repository)
    path = repository / ENSEMBLE.name / str(max(versions, default=0)) / FILE
    if not path.exists():
        raise RunError(f"{path}: not there; `python -m training export` writes it with each version")
    return max(versions), json.loads(path.read_text())


def patients_of(repository: Path, version: int, described: dict[str, Any]) -> dict[str, Any]:
    """What a version's evidence counts of each patient; up to version 10, that is in its metadata, and not of heads."""
    path = repository / ENSEMBLE.name / str(version) / PATIENTS
    if path.exists():
        content: dict[str, Any] = json.loads(path.read_text())
        return content
    return {"slices": described.get("metrics", {}).get("held_out", {}).get("cases", [])}


def versions_of(repository: Path) -> list[int]:
    """The versions that are whole: the gate's folder is moved in last."""
    folders = (repository / ENSEMBLE.name).glob("*")
    return [int(folder.name) for folder in folders if folder.is_dir() and folder.name.isdecimal()]


def card(metadata: dict[str, Any]) -> str:
    """MODEL_CARD.md, from `metadata.json`."""
    # Markdown, of our own numbers: there is nothing to escape.
    environment = jinja2.Environment(  # noqa: S701
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("model_card.md").render(**metadata)

"""Trains one network with Keras, in such a way that it can be stopped at any moment and carried on."""

import logging
from importlib.util import find_spec
from pathlib import Path

import keras
import numpy as np

from gliogate.contract import CHANNELS
from training.batches import EpochBatches
from training.callbacks import Averaged, Checkpoint, EarlyStopping, Progress, Reseeded, Seconds, Validate, Validation
from training.data import Dataset
from training.devices import all_devices
from training.errors import RecipeError
from training.files import naming, replacing
from training.fused import with_fused_normalization, with_plain_normalization
from training.losses import loss_of
from training.models import WHERE_STRIDE
from training.networks import network_of
from training.overlap import Dice, Jaccard
from training.recipe import Output, Stage

logger = logging.getLogger(__name__)

VALIDATED_EVERY = 4
"""Epochs between two looks at the validation slices, where nothing is decided by them."""

MONITORED: dict[Output, str] = {"mask": "val_dice", "tumor": "val_auc"}
"""The validation figure that says which weights are best; of a network that answers both, the first."""


def fit(
    name: str,
    stage: Stage,
    training: Dataset,
    synthetic: Dataset,
    validate: Validate,
    folder: Path,
    *,
    seed: int = 0,
    workers: int = 2,
) -> None:
    """Trains from the last whole epoch that `folder` holds, or from the start, to the course's end.

    After each epoch `<name>.checkpoint.keras` (network and optimizer) is replaced in one step, with early stopping
    `<name>.best.npz` whenever there are better weights, and a line is added to `<name>.csv` and, where there is
    TensorFlow, to TensorBoard's files in `tensorboard/<name>`. At the end, `<name>.keras` (the averaged or best
    weights, without the optimizer) takes the checkpoint's place. Where it is there already, nothing is done.

    Args:
        name: of the stage.
        stage: how.
        training: real slices.
        synthetic: phantoms, of which each epoch takes some.
        validate: figures of a network on slices that it does not learn from; see `MONITORED`.
        folder: where the run lives; it exists.
        seed: of weights, order, augmentation and dropout.
        workers: threads that prepare batches.

    Raises:
        RecipeError: a phase shows slices at a size that the network does not take.
        TrainingError: the loss is no number any more, or a file cannot be written; the checkpoint before it is whole.
    """
    finished, checkpoint = folder / f"{name}.keras", folder / f"{name}.checkpoint.keras"
    best = folder / f"{name}.best.npz"
    if finished.exists():
        logger.info("%s: trained already", name)
        return
    steps = len(EpochBatches(training, synthetic, stage, stage.phases[0], seed=seed))
    if checkpoint.exists():
        with all_devices():
            model = keras.saving.load_model(checkpoint)
        logger.info("%s: carrying on after epoch %d of %d", name, _epochs_done(model, steps), stage.epochs)
    else:
        keras.utils.set_random_seed(seed)
        with all_devices():
            model = build(stage, steps_per_epoch=steps)
        (folder / f"{name}.csv").unlink(missing_ok=True)
        best.unlink(missing_ok=True)

    begin = 0
    for phase in stage.phases:
        end = begin + phase.epochs
        done = _epochs_done(model, steps)
        if begin <= done < end:
            if stage.average and 0 < done == begin:
                # As Keras does at the end of a phase; a checkpoint is written just before that.
                model.optimizer.finalize_variable_values(model.trainable_variables)
            log = keras.callbacks.CSVLogger(folder / f"{name}.csv", append=True)
            callbacks = [
                Reseeded(seed),
                Checkpoint(checkpoint),
                *([Averaged()] if stage.average else []),
                Validation(validate, every=1 if stage.patience else VALIDATED_EVERY, epochs=stage.epochs),
                *([_early_stopping(stage, best, done)] if stage.patience and end == stage.epochs else []),
                Seconds(),
                keras.callbacks.TerminateOnNaN(),
                log,
                *_tensorboard(folder / "tensorboard" / name),
                Progress(name, stage.epochs),
            ]
            batches = EpochBatches(training, synthetic, stage, phase, epoch=done, seed=seed, workers=workers)
            # The checkpoints' errors name their files themselves; those of Keras's and TensorFlow's logs do not.
            with naming(folder):
                try:
                    model.fit(batches, initial_epoch=done, epochs=end, shuffle=False, verbose=0, callbacks=callbacks)
                finally:
                    # Keras closes it only where nothing went wrong.
                    log.on_train_end()
        begin = end
    with replacing(finished) as partial:
        with_plain_normalization(model).save(partial, include_optimizer=False)
    checkpoint.unlink(missing_ok=True)
    best.unlink(missing_ok=True)


def build(stage: Stage, *, steps_per_epoch: int) -> keras.Model:
    """The network of a stage, compiled; it takes slices of any of the phases' sizes.

    Raises:
        RecipeError: there is no such network, or a size that it does not take.
    """
    model = with_fused_normalization(network_of(stage, size=None))
    for phase in stage.phases:
        try:
            shapes = model.compute_output_shape((None, phase.size, phase.size, len(CHANNELS)))
        except ValueError:
            message = f"phases: {stage.network} takes no slices of {phase.size} pixels, window {phase.window} x scale"
            raise RecipeError(f"{message} {phase.scale}; take a multiple of 64") from None
        for output, cell in (("where", WHERE_STRIDE), ("mask", 1)):
            expected = (phase.size // cell, phase.size // cell)
            if output in shapes and tuple(shapes[output][1:]) != expected:
                found = tuple(shapes[output][1:])
                message = f"options: with {stage.options} `{output}` of {stage.network} has shape"
                raise RecipeError(f"{message} {found}, expected {expected}")
    warm_up = round(stage.warm_up * steps_per_epoch)
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0,
        decay_steps=max(1, stage.epochs * steps_per_epoch - warm_up),
        warmup_target=stage.learning_rate,
        warmup_steps=warm_up,
    )
    optimizer = keras.optimizers.AdamW(
        schedule,
        weight_decay=stage.weight_decay,
        global_clipnorm=1.0,
        use_ema=bool(stage.average),
        ema_momentum=stage.average or None,
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    model.compile(
        optimizer,
        loss={output: loss_of(formula) for output, formula in stage.losses.items()},
        loss_weights={output: stage.loss_weights.get(output, 1.0) for output in stage.losses},
        metrics={output: _metrics(output) for output in stage.losses},
    )
    _make_variables(model)
    return model


def _make_variables(model: keras.Model) -> None:
    """Makes what the first step would make of variables: TensorFlow traces a step twice in which it makes some."""
    model.optimizer.build(model.trainable_variables)
    shapes = {name: [size or 8 for size in output.shape] for name, output in model.output.items()}
    nothing = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    model.compute_loss(y=nothing, y_pred=nothing)
    model.compute_metrics(None, nothing, nothing)
    model.reset_metrics()


def _metrics(output: Output) -> list[keras.metrics.Metric]:
    if output == "tumor":
        return [keras.metrics.AUC(from_logits=True, name="auc")]
    return [Dice(name="dice"), Jaccard(name="jaccard")] if output == "mask" else []


def _early_stopping(stage: Stage, best: Path, done: int) -> keras.callbacks.Callback:
    """For the last phase: what comes before it shows slices at another size."""
    monitored = next(figure for output, figure in MONITORED.items() if output in stage.losses)
    return EarlyStopping(best, monitored, patience=stage.patience or 0, epochs_done=done)


def _tensorboard(folder: Path) -> list[keras.callbacks.Callback]:
    """Keras writes its files with TensorFlow, which a machine that trains with JAX may lack."""
    if find_spec("tensorflow") is None:
        return []
    return [keras.callbacks.TensorBoard(folder, write_graph=False)]


def _epochs_done(model: keras.Model, steps_per_epoch: int) -> int:
    """The optimizer counts its steps and is saved with the weights: the two cannot disagree, as a file beside might."""
    return int(keras.ops.convert_to_numpy(model.optimizer.iterations)) // steps_per_epoch

"""What choices of the training are worth, and what its networks cost: `python -m training.experiments.NAME`."""

from training.quiet import import_keras

# Before the experiments import Keras.
import_keras()

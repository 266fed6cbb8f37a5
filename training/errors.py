"""What can go wrong in training, as one tree. Messages name the file or key, what was found and what was expected.

TrainingError
├── DataError      a dataset has not the layout, or a file not the content, that is needed
├── RecipeError    a recipe or one of its keys does not exist, or a value makes no sense
├── RunError       a run folder or a model repository lacks what a command needs, or belongs to something else
├── ParityError    an ONNX file does not answer as the Keras network that it was made from, or a gate as the one before
└── WorseError     a run is worse than what is served, or cannot be held against it
"""


class TrainingError(Exception):
    """Anything that `python -m training` reports in one line."""


class DataError(TrainingError):
    """A dataset has not the layout, or a file not the content, that is needed."""


class RecipeError(TrainingError):
    """A recipe or one of its keys does not exist, or a value makes no sense."""


class RunError(TrainingError):
    """A run folder or a model repository lacks what a command needs, or belongs to something else."""


class ParityError(TrainingError):
    """An ONNX file does not answer as the Keras network that it was made from, or a gate as the one before."""


class WorseError(TrainingError):
    """A run is worse than what is served, or cannot be held against it."""

"""What a model repository answers when it is served: by Triton, through the gate, asked by the client."""

import logging
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from gliogate import Analysis, Client, GliogateError
from gliogate.contract import GateMode
from gliogate.embedded import EmbeddedServer
from training.answers import Answers
from training.data import Dataset

logger = logging.getLogger(__name__)

ATTEMPTS = 3
IN_FLIGHT = 16


def ask(repository: Path, *datasets: Dataset, in_flight: int = IN_FLIGHT) -> list[Answers]:
    """Serves a model repository and asks it about every slice twice: through the gate, and with the gate held open.

    Args:
        repository: a Triton model repository.
        datasets: slices to ask about.
        in_flight: how many at a time, that the gate may join into a batch.

    Returns:
        The answers about each dataset.

    Raises:
        GliogateError: the repository cannot be served.
    """
    attempt = 1
    while True:
        try:
            with EmbeddedServer(repository) as server, Client(server.url) as client:
                return [_ask(client, dataset, in_flight) for dataset in datasets]
        except GliogateError as error:
            # On a machine that has far too much to do Triton takes processes of its own for dead.
            if attempt == ATTEMPTS:
                raise
            logger.warning("asking once more: %s", error)
            attempt += 1


def _ask(client: Client, dataset: Dataset, in_flight: int) -> Answers:
    gated, held_open = (_analyses(client, dataset, gate, in_flight) for gate in ("auto", "always"))
    return Answers(
        probability=np.array([analysis.tumor_probability for analysis in gated], np.float32),
        opened=np.array([analysis.segmented for analysis in gated]),
        masks=np.stack([analysis.mask for analysis in held_open]),
    )


def _analyses(client: Client, dataset: Dataset, gate: GateMode, in_flight: int) -> list[Analysis]:
    console = Console(stderr=True)
    asked = client.analyze_many(dataset.images, in_flight=in_flight, gate=gate, timeout_s=300)
    description = "asking the server" if gate == "auto" else "asking it with the gate held open"
    return list(track(asked, description, total=len(dataset), console=console, disable=not console.is_terminal))

"""BentoML, with its adaptive batching.

Follows docs.bentoml.com/en/latest/get-started/adaptive-batching.html: a service that infers in batches, which grow and
shrink with the traffic, behind one that takes the requests. Its line in the log for every request is turned off
(docs.bentoml.com/en/latest/build-with-bentoml/observability/logging.html).
"""

import bentoml

from benchmarks.pair import MAX_BATCH, Networks, Pair

QUIET = {"access": {"enabled": False}}


@bentoml.service(workers=1, traffic={"timeout": 120}, logging=QUIET)
class Inference:
    """One worker with both networks."""

    def __init__(self) -> None:
        self.pair = Pair(Networks.from_environment())

    @bentoml.api(batchable=True, max_batch_size=MAX_BATCH, max_latency_ms=60_000)
    def predict(self, images: list[bytes]) -> list[bytes]:
        """Analyzes the slices that have come together."""
        return self.pair.replies(images)


@bentoml.service(workers=1, traffic={"timeout": 120}, logging=QUIET)
class Analysis:
    """Takes and gives raw bytes."""

    inference = bentoml.depends(Inference)

    @bentoml.api(route="/predict")
    async def predict(self, image: bytes, /) -> bytes:
        """Analyzes one slice."""
        [reply] = await self.inference.to_async.predict([image])
        return reply

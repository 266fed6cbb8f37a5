"""Ray Serve, with its dynamic request batching.

Follows docs.ray.io/en/latest/serve/advanced-guides/dyn-req-batch.html and docs.ray.io/en/latest/serve/http-guide.html.
"""

import os
import signal
import sys

import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import Response

from benchmarks.pair import MAX_BATCH, Networks, Pair


@serve.deployment(num_replicas=1, max_ongoing_requests=4 * MAX_BATCH)
class Analysis:
    """One replica, that takes what has come together in 5 ms."""

    def __init__(self) -> None:
        self.pair = Pair(Networks.from_environment())

    @serve.batch(max_batch_size=MAX_BATCH, batch_wait_timeout_s=0.005)
    async def predict(self, images: list[bytes]) -> list[bytes]:
        """Analyzes the slices that have come together."""
        return self.pair.replies(images)

    async def __call__(self, request: Request) -> Response:
        """Answers one request."""
        return Response(await self.predict(await request.body()), media_type="application/octet-stream")


if __name__ == "__main__":
    ray.init(
        num_cpus=len(os.sched_getaffinity(0)),
        include_dashboard=False,
        object_store_memory=256 << 20,
        log_to_driver=False,
    )
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
    serve.run(Analysis.bind(), route_prefix="/predict")
    signal.pause()

"""LitServe, with its dynamic batching.

Follows lightning.ai/docs/litserve/features/batching and lightning.ai/docs/litserve/api-reference/litapi.
"""

import sys
from typing import Any

import litserve
from fastapi import Response

from benchmarks.pair import MAX_BATCH, Networks, Pair


class Analysis(litserve.LitAPI):
    """One worker, that takes what has come together in 5 ms."""

    def setup(self, device: str) -> None:  # noqa: ARG002
        """Loads both networks, in the worker's process."""
        self.pair = Pair(Networks.from_environment())

    # Without a type, LitServe hands over what was sent; it takes JSON and forms, and no body of another kind.
    def decode_request(self, request):  # type: ignore[no-untyped-def]
        """Takes the slice from a form."""
        return request["image"].file.read()

    def batch(self, inputs: list[bytes]) -> list[bytes]:
        """The slices of a batch; they are joined where they are analyzed."""
        return inputs

    def predict(self, x: list[bytes]) -> list[bytes]:
        """Analyzes a batch."""
        return self.pair.replies(x)

    def unbatch(self, output: list[bytes]) -> Any:
        """One reply for every slice."""
        return output

    def encode_response(self, output: bytes) -> Response:
        """Sends the reply as it is."""
        return Response(output, media_type="application/octet-stream")


if __name__ == "__main__":
    api = Analysis(max_batch_size=MAX_BATCH, batch_timeout=0.005)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="warning")

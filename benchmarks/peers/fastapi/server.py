"""FastAPI and ONNX Runtime: the model is loaded in the lifespan, and the endpoint is a plain `def`.

Follows fastapi.tiangolo.com/advanced/events (a model shared by all requests) and fastapi.tiangolo.com/async (what
blocks belongs in a `def`, which runs in a pool of threads). FastAPI has no batching: every request is one slice.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Body, FastAPI, Response

from benchmarks.pair import Networks, Pair

pairs: dict[str, Pair] = {}


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Loads both networks before the first request."""
    pairs["loaded"] = Pair(Networks.from_environment())
    yield
    pairs.clear()


app = FastAPI(lifespan=lifespan)


@app.post("/predict")
def predict(image: Annotated[bytes, Body(media_type="application/octet-stream")]) -> Response:
    """Analyzes one slice."""
    [reply] = pairs["loaded"].replies([image])
    return Response(reply, media_type="application/octet-stream")

"""MLServer, with its adaptive batching, asked in the protocol that it shares with Triton.

Follows docs.seldon.ai/mlserver/user-guide/custom and docs.seldon.ai/mlserver/user-guide/adaptive-batching.
"""

import asyncio
import sys

from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse

from benchmarks.pair import MAX_BATCH, Networks, Pair


class Analysis(MLModel):
    """Both networks as one custom runtime."""

    async def load(self) -> bool:
        """Loads both networks."""
        self.pair = Pair(Networks.from_environment())
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Analyzes the slices that have come together."""
        probability, masks = self.pair.analyze(NumpyCodec.decode_input(payload.inputs[0]))
        answers = {"tumor_probability": probability[:, None], "tumor_mask": masks}
        outputs = [NumpyCodec.encode_output(name, array) for name, array in answers.items()]
        return InferenceResponse(model_name=self.name, outputs=outputs)


async def main(grpc_port: int, http_port: int, metrics_port: int) -> None:
    """Serves one model until the process is told to end."""
    # Without workers of its own, the model lives in the process that serves: one hop fewer.
    server = MLServer(
        Settings(
            host="127.0.0.1",
            grpc_port=grpc_port,
            http_port=http_port,
            metrics_port=metrics_port,
            parallel_workers=0,
            load_models_at_startup=False,
        )
    )
    model = ModelSettings(name="brain_tumor", implementation=Analysis, max_batch_size=MAX_BATCH, max_batch_time=0.005)
    await server.start(models_settings=[model])


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:])))

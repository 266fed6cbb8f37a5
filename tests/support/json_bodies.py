"""Bodies of KServe's HTTP inference that are nearly right, drawn by chance."""

import gzip
import json
from random import Random
from typing import Any

NUMBERS = (0, 1, -1, 255, 256, 2**31, 2**63, 2**64, 10**40, 0.5, 1e308, -0.0, True, None, "0", [], {})
TEXTS = ("", "image", "UINT8", "FP32", "BOOL", "BYTES", "INT64", "auto", "\ud800", "ä", "\x00", "x" * 10_000)
NAMES = ("name", "datatype", "shape", "data", "parameters", "inputs", "outputs", "id", "binary_data_size", "")


def draw(random: Random) -> tuple[bytes, dict[str, str]]:
    """A body and its headers."""
    side = random.choice((1, 4, 16))
    tensor: dict[str, Any] = {
        "name": "image",
        "datatype": "UINT8",
        "shape": [1, side, side, 3],
        "data": [0] * side * side * 3,
    }
    request: dict[str, Any] = {"inputs": [tensor], "outputs": [{"name": "tumor_probability"}]}
    for _ in range(random.randrange(4)):
        _spoil(random, random.choice((request, tensor)))
    text = json.dumps(request, ensure_ascii=random.random() < 0.5).encode(errors="surrogatepass")
    headers = {}
    if random.random() < 0.2:
        text = bytearray(text)
        for _ in range(random.randrange(1, 4)):
            text[random.randrange(len(text))] = random.randrange(256)
        text = bytes(text[: random.choice((len(text), random.randrange(len(text))))])
    if random.random() < 0.1:
        opening = random.choice((b"[", b'{"a":', b"[[],"))
        text = opening * random.choice((3, 900, 20_000))
    if random.random() < 0.1:
        headers["Inference-Header-Content-Length"] = str(random.choice((len(text), 0, -1, 7, 10**30, "x")))
    if random.random() < 0.1:
        text = gzip.compress(text, 1)[: random.choice((10**9, random.randrange(1, 40)))]
        headers["Content-Encoding"] = random.choice(("gzip", "deflate", "br"))
    return text, headers


def _spoil(random: Random, target: dict[str, Any]) -> None:
    value = random.choice(
        (*NUMBERS, *TEXTS, [random.choice(NUMBERS)] * random.randrange(4), {"a": random.choice(TEXTS)})
    )
    match random.randrange(3):
        case 0:
            target[random.choice((*target, *NAMES))] = value
        case 1 if target:
            del target[random.choice([*target])]
        case _:
            if isinstance(target.get("data"), list) and target["data"]:
                target["data"][random.randrange(len(target["data"]))] = value

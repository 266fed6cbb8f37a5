"""JSON files that are either there whole or not at all."""

import json
from pathlib import Path
from typing import Any

from gliogate.files import replacing


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes a JSON object in one step; numbers that JSON has not are an error."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")

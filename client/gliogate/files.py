"""Files that are either there whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from zlib import crc32


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to, of the same suffix; it takes the place of `path` once the block has ended without error."""
    # The name says whose it is, and is short: where the file's own just fits, so does this.
    partial = path.with_name(f".{path.stem[:16]}-{crc32(os.fsencode(path.name)):08x}.partial{path.suffix}")
    try:
        yield partial
        partial.replace(path)
    except OSError as error:
        if error.filename == str(partial):
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        partial.unlink(missing_ok=True)

"""Folders whose paths Triton can be given.

Triton starts the process of a Python model by a command line for a shell, which splits a path at a space and runs what
stands in `$(…)`; and its Unix sockets take paths of a hundred bytes at most. So everything that it is told of lies in a
folder with a harmless path, what belongs to others by a symbolic link.
"""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import Final

from gliogate.errors import EmbeddedServerError

_HARMLESS: Final = re.compile(r"/[A-Za-z0-9/._+-]*")
_LONGEST: Final = 80
"""Bytes of the path that the folder is made in: those of a socket in it are a hundred and seven at most."""


def make_folder(prefix: str) -> Path:
    """Makes a folder that only this user may enter, where temporary files go, or else in /tmp or /var/tmp.

    Args:
        prefix: what its name begins with, of letters, digits and hyphens.

    Raises:
        EmbeddedServerError: there is no place for it; names those that were tried.
    """
    reasons = []
    places = (tempfile.gettempdir(), "/tmp", "/var/tmp")  # noqa: S108  mkdtemp is safe there
    for place in dict.fromkeys(map(os.path.realpath, places)):
        if not _HARMLESS.fullmatch(place) or len(place) > _LONGEST:
            reasons.append(f"{place} has a path that Triton cannot be given")
            continue
        try:
            return Path(tempfile.mkdtemp(prefix=prefix, dir=place))
        except OSError as error:
            reasons.append(str(error))
    raise EmbeddedServerError(f"no folder for Triton's files: {'; '.join(reasons)}; name one with TMPDIR")

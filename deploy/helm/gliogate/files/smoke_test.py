"""Sends phantoms to a gliogate server and checks what comes back; ends with 1 where it is wrong.

python smoke_test.py HOST:PORT PHANTOMS TIMEOUT_S [FOLDER]

FOLDER has ca.crt, for a server with TLS, and tls.crt and tls.key, where it asks for a certificate.
"""

import sys
from pathlib import Path

from gliogate import TLS, Client
from gliogate.phantom import make_phantom

# The shipped networks reach 0.9 and 0.8.
_LEAST_RIGHT = 0.75
_LEAST_DICE = 0.7


def check(url: str, phantoms: int, timeout_s: float, certificates: Path | None = None) -> str | None:
    """Returns what is wrong, or None."""
    right = lesion = outlined = shared = 0
    with Client(url, tls=_tls(certificates) if certificates else None) as client:
        client.wait_until_ready(timeout_s)
        scans = [make_phantom(seed, tumor=seed % 2 == 0) for seed in range(phantoms)]
        for scan, analysis in zip(scans, client.analyze_many([scan.image for scan in scans]), strict=True):
            right += analysis.tumor == scan.tumor
            if analysis.mask is not None:
                lesion += int(scan.mask.sum())
                outlined += int(analysis.mask.sum())
                shared += int((scan.mask * analysis.mask).sum())
    dice = 2 * shared / max(1, lesion + outlined)
    print(f"{right} of {phantoms} verdicts are right; Dice {dice:.3f}")
    if right < _LEAST_RIGHT * phantoms:
        return f"too few verdicts are right: {right} of {phantoms}"
    if dice < _LEAST_DICE:
        return f"the masks are off: Dice {dice:.3f}"
    return None


def _tls(folder: Path) -> TLS:
    own = {"certificate": folder / "tls.crt", "private_key": folder / "tls.key"}
    return TLS(root_certificates=folder / "ca.crt", **(own if own["certificate"].exists() else {}))


if __name__ == "__main__":
    url, phantoms, timeout_s, *folders = sys.argv[1:]
    sys.exit(check(url, int(phantoms), float(timeout_s), *map(Path, folders)))

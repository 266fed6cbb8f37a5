"""Which of gliogate's extras are installed here, and how pip brings more of them."""

import platform
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Final

EXTRAS: Final[Mapping[str, tuple[str, ...]]] = {
    "cohort": ("pyarrow",),
    "dicom": ("pydicom", "highdicom", "pylibjpeg", "openjpeg", "gdcm"),
    "embedded": ("pytriton", "onnxruntime", "openvino"),
    "nifti": ("nibabel",),
    "otel": ("opentelemetry",),
}
"""The modules that each extra brings which the SDK and the command use."""


def missing_modules(extra: str) -> list[str]:
    """The modules of an extra that are not there; nothing is imported to find out."""
    return [module for module in EXTRAS[extra] if find_spec(module) is None]


def has_triton() -> bool:
    """Whether the extra `embedded` has a Triton for this machine."""
    return sys.platform == "linux" and platform.machine() == "x86_64"


def install_command(*wanted: str) -> str:
    """The command that installs extras along with those that are there: asked for them all, pip suits them all."""
    kept = [extra for extra in EXTRAS if not missing_modules(extra)]
    return f"pip install 'gliogate[{','.join(sorted({*kept, *wanted}))}]'"

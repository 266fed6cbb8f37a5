"""What the embedded server needs of this machine, and the folder that Triton is started from."""

from __future__ import annotations

import ctypes.util
import importlib.util
import os
import platform
import shutil
import sys
import sysconfig
import venv
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from gliogate.errors import EmbeddedServerError
from gliogate.installed import has_triton, install_command, missing_modules

_OUR_BACKENDS = Path(__file__).parent / "backend"
_NUMPY_MAJOR = "1"
"""What the stubs of the wheel are built against; with another one every array is refused."""
_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


@dataclass(frozen=True)
class Installation:
    """Where the parts of Triton are on this machine.

    Attributes:
        wheel: the `tritonserver` folder of the wheel.
        library_folders: where the shared libraries are that Triton and its Python stub are linked with.
    """

    wheel: Path
    library_folders: tuple[Path, ...]

    @classmethod
    def find(cls) -> Installation:
        """Finds the parts.

        Raises:
            EmbeddedServerError: the platform is unsupported, the extra is not installed, NumPy is not the one that it
                brings, or Python has no libpython.
        """
        if not has_triton():
            raise EmbeddedServerError(
                f"the embedded Triton runs on Linux on x86_64 only, this is {platform.system()} on "
                f"{platform.machine()}; give the address of a server elsewhere instead"
            )
        if missing := missing_modules("embedded"):
            raise EmbeddedServerError(
                f"the embedded Triton needs {' and '.join(missing)}, not installed: pip install 'gliogate[embedded]'"
            )
        if (found := version("numpy")).partition(".")[0] != _NUMPY_MAJOR:
            raise EmbeddedServerError(
                f"the embedded Triton needs NumPy {_NUMPY_MAJOR}, and {found} is installed: "
                f"{install_command('embedded')}"
            )
        # Found, not imported: it would import all of pytriton.
        spec = importlib.util.find_spec("pytriton")
        assert spec is not None  # noqa: S101  it was found above
        assert spec.origin is not None  # noqa: S101  it is no namespace package
        wheel = Path(spec.origin).parent / "tritonserver"
        stub = wheel / "python_backend_stubs" / _PYTHON / "triton_python_backend_stub"
        if not stub.is_file():
            raise EmbeddedServerError(f"nvidia-pytriton has no Python {_PYTHON} for models: {stub} is missing")
        libraries = wheel.parent.parent / "nvidia_pytriton.libs"
        return cls(wheel=wheel, library_folders=(*_libpython_folders(), libraries))

    @property
    def executable(self) -> Path:
        """The server itself."""
        return self.wheel / "bin" / "tritonserver"

    def assemble(self, folder: Path) -> None:
        """Fills an empty folder with what Triton is started from: its backends, and a Python environment for them.

        Triton's stub takes no notice of Python's environment variables; it lives in the virtual environment whose
        `python3` is first on PATH. So it gets one of its own, which sees the packages that this process sees.

        Args:
            folder: one with a path that a shell takes as it is, see `folders`; so nothing else is told to Triton.
        """
        backends = folder / "backends"
        python = backends / "python"
        # Copies: Triton refuses a library that a symbolic link leads out of the backend's folder.
        shutil.copytree(self.wheel / "backends" / "python", python, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy2(self.wheel / "python_backend_stubs" / _PYTHON / "triton_python_backend_stub", python)
        for backend in _OUR_BACKENDS.iterdir():
            (backends / backend.name).symlink_to(backend)
        for index, libraries in enumerate(self.library_folders):
            # Whatever stands in the path, the loader takes a colon or a semicolon for its end.
            (folder / f"libraries-{index}").symlink_to(libraries)
        environment = folder / "environment"
        venv.create(environment, symlinks=True)
        packages = environment / "lib" / f"python{_PYTHON}" / "site-packages"
        seen = []
        for index, path in enumerate(
            path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")
        ):
            # By links: this file is read in whatever encoding the locale says.
            seen.append(packages / f"seen-{index}")
            seen[-1].symlink_to(path)
        # The model repository is not ours to write to, not even compiled Python.
        lines = [*map(str, seen), "import sys; sys.dont_write_bytecode = True"]
        (packages / "gliogate-embedded.pth").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def environment(self, folder: Path) -> dict[str, str]:
        """Returns the environment variables to start Triton with, from the folder that was assembled."""
        libraries = [str(folder / f"libraries-{index}") for index in range(len(self.library_folders))]
        paths = [str(folder / "environment" / "bin")]
        # Since 1.31 ONNX Runtime tells Microsoft of its use, unless this is set; whoever wants that sets it to 0.
        quiet = {"ORT_DISABLE_TELEMETRY": "1"}
        return (
            quiet
            | os.environ
            | {
                "LD_LIBRARY_PATH": os.pathsep.join([*libraries, *_set("LD_LIBRARY_PATH")]),
                "PATH": os.pathsep.join([*paths, *_set("PATH")]),
            }
        )


def _set(variable: str) -> list[str]:
    return [value] if (value := os.environ.get(variable)) else []


def _libpython_folders() -> tuple[Path, ...]:
    name = f"libpython{_PYTHON}.so.1.0"
    library = sysconfig.get_config_var("LIBDIR") or ""
    multiarch = sysconfig.get_config_var("MULTIARCH") or ""
    for folder in (Path(sys.base_prefix, "lib"), Path(library), Path(library, multiarch)):
        if (folder / name).is_file():
            return (folder,)
    if ctypes.util.find_library(f"python{_PYTHON}") == name:
        return ()  # The loader knows where.
    raise EmbeddedServerError(
        f"the embedded Triton needs {name}, and this Python ({sys.executable}) has none: it was built without "
        "--enable-shared. Use a Python that has it (Debian's and Ubuntu's libpython packages, conda, uv)"
    )

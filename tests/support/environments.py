"""Virtual environments that know nothing of the checkout, and what runs in them."""

import os
import subprocess
import venv
from pathlib import Path


class Environment:
    """A virtual environment, in a folder of its own.

    Attributes:
        python: its interpreter.
    """

    def __init__(self, folder: Path, *, with_pip: bool, python: Path | None = None) -> None:
        """Makes one.

        Args:
            folder: where it will be; there is nothing yet.
            with_pip: whether it has a pip.
            python: the interpreter that it is made of; None for the running one.
        """
        if python is None:
            venv.create(folder, with_pip=with_pip)
        else:
            options = [] if with_pip else ["--without-pip"]
            subprocess.run([python, "-m", "venv", *options, folder], check=True)
        self._folder = folder
        self.python = folder / "bin" / "python"

    @property
    def packages(self) -> Path:
        """Where its packages are."""
        (found,) = self._folder.glob("lib/python3.*/site-packages")
        return found

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables in it: its programs are first on PATH, and no other code is on Python's path."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "GLIOGATE"))}
        return kept | {"PATH": f"{self.python.parent}{os.pathsep}{kept['PATH']}"}

    def run(self, *command: str | Path, cwd: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Runs one of its programs in a folder, and asserts how it ends."""
        program, *arguments = map(str, command)
        done = subprocess.run(
            [self.python.parent / program, *arguments],
            cwd=cwd,
            env=self.variables,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

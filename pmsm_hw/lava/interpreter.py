"""Which Python runs Lava: lava-nc 0.10.0 needs CPython 3.10."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from pmsm_hw.arguments import shown
from pmsm_hw.errors import InputError, LavaError
from pmsm_hw.temporary import temporary_folder

__all__ = ["REQUIREMENTS", "VARIABLE", "check_python", "find_python"]

VARIABLE = "PMSM_HW_LAVA_PYTHON"
"""Environment variable that names the Python to use."""

REQUIREMENTS = ("lava-nc==0.10.0", "numpy<2", "h5py>=3.8")
"""What the worker imports beside pmsm_hw's own files."""

ENVIRONMENT = "lava-nc-0.10.0"
"""Folder of the environment that uv makes, in the user's cache."""

UV_TIMEOUT_S = 600.0

BESIDE = ".venv-lava"
"""Environment that ``make setup`` makes beside the checkout and its ``.venv``."""

CHECKOUT = Path(__file__).resolve().parents[2]
"""Folder of the checkout; where the package is installed, one that holds no environment."""

REMEDY = (
    f"give python=, set {VARIABLE} to a Python 3.10 that has lava-nc "
    "(pip install lava-nc==0.10.0), or install uv"
)


def check_python(python: object) -> None:
    """Raise `InputError` unless it is a path, or None."""
    if python is not None and not isinstance(python, str | os.PathLike):
        raise InputError(
            "lava",
            f"python {shown(python)} is not a path",
            remedy="give the path of a Python 3.10 that has lava-nc",
            actual=type(python).__name__,
            limit="a path",
        )


def find_python(python: str | os.PathLike[str] | None = None) -> str:
    """Find a Python 3.10 with lava-nc.

    In this order: the argument; this interpreter, if it has Lava; the environment variable
    ``PMSM_HW_LAVA_PYTHON``; ``.venv-lava`` beside the running environment or the checkout, as
    ``make setup`` makes it; uv, which makes an environment in the user's cache (the first time it
    downloads lava-nc, and Python 3.10 where there is none).

    Parameters
    ----------
    python
        Path of an interpreter.

    Returns
    -------
    str
        Path of the interpreter. Whether a given one has Lava shows when it runs.

    Raises
    ------
    InputError
        If the argument is no path.
    LavaError
        If there is none.
    """
    check_python(python)
    if python is not None:
        return _existing(os.fspath(python), "argument python")
    if sys.version_info[:2] == (3, 10) and importlib.util.find_spec("lava") is not None:
        return sys.executable
    if given := os.environ.get(VARIABLE):
        return _existing(given, VARIABLE)
    for folder in (Path(sys.prefix).parent, CHECKOUT):
        python_there = folder / BESIDE / "bin" / "python"
        if python_there.is_file():
            return str(python_there)
    if uv := shutil.which("uv"):
        return _by_uv(uv)
    raise LavaError(
        "lava",
        f"needs CPython 3.10 with lava-nc, this is {sys.version_info[0]}.{sys.version_info[1]} "
        f"and neither {VARIABLE}, {BESIDE} beside this environment nor uv is there",
        remedy=REMEDY,
        actual=".".join(map(str, sys.version_info[:3])),
        limit="3.10",
    )


def _existing(path: str, what: str) -> str:
    found = shutil.which(os.path.expanduser(path))
    if found is None:
        raise LavaError(
            what,
            f"'{path}' is not an executable file, a Python 3.10 with lava-nc is needed",
            remedy=REMEDY,
            actual=path,
            limit="an executable file",
        )
    return str(Path(found).absolute())


def _environment() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "pmsm-hw" / ENVIRONMENT


def _by_uv(uv: str) -> str:
    """Make an environment in the user's cache, or find it there."""
    environment = _environment()
    python = environment / "bin" / "python"
    if not python.exists():
        try:
            environment.parent.mkdir(parents=True, exist_ok=True)
            with temporary_folder("making-", environment.parent) as folder:
                made = folder / ENVIRONMENT
                inside = str(made / "bin" / "python")
                _uv(uv, "venv", "--python", "3.10", str(made))
                _uv(uv, "pip", "install", "--python", inside, *REQUIREMENTS)
                with suppress(OSError):  # another process was faster
                    made.rename(environment)
        except OSError as error:
            raise LavaError(
                f"folder '{environment.parent}'",
                f"takes no environment with lava-nc ({error.strerror})",
                remedy="name another folder in the environment variable XDG_CACHE_HOME, or "
                + REMEDY,
                actual=str(error),
                limit="a writable folder",
            ) from error
    return str(python)


def _uv(*command: str) -> None:
    try:
        done = subprocess.run(  # noqa: S603
            command, capture_output=True, text=True, timeout=UV_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise LavaError(
            "uv",
            f"made no environment with lava-nc within {UV_TIMEOUT_S:g} s",
            remedy=REMEDY,
            actual=UV_TIMEOUT_S,
            limit=UV_TIMEOUT_S,
        ) from error
    if done.returncode != 0:
        raise LavaError(
            "uv",
            f"could not make a Python 3.10 with lava-nc (exit status {done.returncode}, 0 is "
            f"needed): {' '.join(done.stderr.split())[:300]}",
            remedy=REMEDY,
            actual=done.returncode,
            limit=0,
        )

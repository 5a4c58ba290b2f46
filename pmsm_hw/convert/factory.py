"""Models of the user's own, named on the command line as ``package.module:function``."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from torch import nn

from pmsm_hw.convert.state_dicts import suited
from pmsm_hw.errors import ConversionError, FormatError, PmsmHwError
from pmsm_hw.nn.tensor_files import read_tensors

__all__ = ["build_model", "users_code"]


@contextmanager
def users_code(subject: str, doing: str) -> Iterator[None]:
    """Run code of the user's: whatever it raises is their mistake, named with its file and line.

    What it prints goes to stderr, for stdout belongs to the answer.

    Parameters
    ----------
    subject
        What the code belongs to: ``model 'mine:make'``.
    doing
        What it was asked for: ``"its module is imported"``.

    Raises
    ------
    ConversionError
        If it raises anything but `PmsmHwError` or KeyboardInterrupt, ``sys.exit`` included.
    """
    try:
        with redirect_stdout(sys.stderr):
            yield
    except (PmsmHwError, KeyboardInterrupt):
        raise
    except SystemExit as error:
        raise ConversionError(
            subject,
            f"calls sys.exit({'' if error.code is None else repr(error.code)}) while {doing}"
            f"{_place(error)}",
            remedy='put what runs as a script below if __name__ == "__main__"',
            actual=error.code,
            limit="no exit",
        ) from error
    except SyntaxError as error:
        raise ConversionError(
            subject,
            f"has a syntax error in {error.filename}, line {error.lineno}: {error.msg}",
            remedy="correct it",
            actual=error.msg,
            limit="Python that can be imported",
        ) from error
    except Exception as error:
        said = " ".join(str(error).split())
        raise ConversionError(
            subject,
            f"raises {type(error).__name__} while {doing}{': ' if said else ''}{_short(said)}"
            f"{_place(error)}",
            remedy="correct it, or give another model or data",
            actual=type(error).__name__,
            limit="no exception",
        ) from error


def _short(text: str, most: int = 300) -> str:
    return text if len(text) <= most else f"{text[:most]}..."


def _place(error: BaseException) -> str:
    """File and line where an exception arose, the innermost of the user's."""
    ours = str(Path(__file__).resolve().parents[1])
    frames = [
        f
        for f in traceback.extract_tb(error.__traceback__)
        if not f.filename.startswith((ours, sys.prefix, sys.base_prefix, "<"))
    ]
    return f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""


def build_model(factory: str, state_dict: str | os.PathLike[str] | None = None) -> nn.Module:
    """Call a function that returns a model, and fill in trained values.

    Parameters
    ----------
    factory
        ``package.module:function``; imported with the current folder on the path, called without
        arguments, returns a (quantized) ``nn.Module``. A class of modules, or a module itself, will
        do.
    state_dict
        File of ``torch.save(model.state_dict(), file)``; read with ``weights_only=True``. One that
        training tools wrapped is unwrapped, see `pmsm_hw.convert.state_dicts`.

    Returns
    -------
    nn.Module
        In evaluation mode.

    Raises
    ------
    ConversionError
        If the factory is not there, raises or gives no module, or the values do not suit the model.
    FormatError
        If the file is no state dict.
    """
    for what, value in (("factory", factory), ("state_dict", state_dict)):
        if not isinstance(value, str if what == "factory" else str | os.PathLike | None):
            raise ConversionError(
                "model",
                f"{what} is a {type(value).__name__}",
                remedy="name package.module:function, and a file",
                actual=type(value).__name__,
                limit="str",
            )
    subject = f"model '{factory}'"
    module, colon, function = factory.partition(":")
    if not (module and colon and function):
        raise ConversionError(
            subject,
            "is neither a file .pt nor package.module:function",
            remedy="name a file of save_model, or a function that returns the model",
            actual=factory,
            limit="package.module:function",
        )
    path = Path(module)
    if path.suffix == ".py" or path.name != module:
        name = path.stem if path.suffix == ".py" else path.name
        where = "" if path.parent == Path() else f", called in {path.parent}"
        raise ConversionError(
            subject,
            "names a file, the name of a Python module is needed",
            remedy=f"give {name}:{function}{where}",
            actual=module,
            limit="package.module:function",
        )
    model = _called(_imported(module, function, subject), subject)
    if not isinstance(model, nn.Module):
        raise ConversionError(
            subject,
            f"gives a {type(model).__name__}, a torch.nn.Module is needed",
            remedy="return the model",
            actual=type(model).__name__,
            limit="torch.nn.Module",
        )
    if state_dict is not None:
        _fill(model, subject, state_dict)
    with users_code(subject, "it is put into evaluation mode"):
        return model.eval()


def _imported(module: str, function: str, subject: str) -> Any:
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        with users_code(subject, "its module is imported"):
            try:
                found = importlib.import_module(module)
            except ModuleNotFoundError as error:
                if error.name is None or not f"{module}.".startswith(f"{error.name}."):
                    raise  # a module that theirs imports
                raise ConversionError(
                    subject,
                    f"cannot be imported: there is no module '{error.name}'",
                    remedy="check the name; the current folder is on the path",
                    actual=module,
                    limit="a module",
                ) from error
        if not hasattr(found, function):
            raise ConversionError(
                subject,
                f"cannot be imported: module '{module}' has no '{function}'",
                remedy="check the name",
                actual=function,
                limit="a function that returns the model",
            )
    finally:
        if here in sys.path:
            sys.path.remove(here)
    return getattr(found, function)


def _called(found: Any, subject: str) -> Any:
    """What a factory returns; a module itself is the model."""
    if isinstance(found, nn.Module) or not callable(found):
        return found
    factory: Callable[[], Any] = found
    try:
        inspect.signature(factory).bind()
    except TypeError as error:
        raise ConversionError(
            subject,
            f"is called without arguments: {error}",
            remedy="give its parameters defaults, or name a function without",
            actual=str(error),
            limit="no arguments",
        ) from error
    except ValueError:  # a builtin without a signature: the call says what is wrong
        pass
    with users_code(subject, "it is called"):
        return factory()


def _fill(model: nn.Module, subject: str, path: str | os.PathLike[str]) -> None:
    values = read_tensors(
        path, what="a state dict", remedy="write it with torch.save(model.state_dict(), file)"
    )
    if not isinstance(values, dict):
        raise FormatError(
            f"file '{os.fspath(path)}'",
            f"holds a {type(values).__name__}, a state dict is needed",
            remedy="write it with torch.save(model.state_dict(), file)",
            actual=type(values).__name__,
            limit="a state dict",
        )
    values = suited(values, model)
    try:
        model.load_state_dict(values)
    except Exception as error:  # keys that are no names, values that are no tensors, ...
        raise ConversionError(
            subject,
            f"does not take the values of '{os.fspath(path)}': "
            f"{_short(' '.join(str(error).split()), 600)}",
            remedy="use the model that the values were trained with",
            actual=len(values),
            limit=len(model.state_dict()),
        ) from error

"""How a run of the command ends: which exit status, and what the last line says.

A user's mistake, in options, data, files or their own model's code, is one line on stderr and exit
status 2, and so are a full disk and memory that runs out. Exit status 1 is left for errors of this
package, with a traceback.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import sysconfig
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

import typer

from pmsm_hw.cli.remedies import in_cli_terms
from pmsm_hw.cli.terminal import StreamError, say
from pmsm_hw.errors import PmsmHwError

__all__ = ["INTERRUPTED", "READER_GONE", "REFUSED", "main"]

INTERNAL = 1
"""Exit status after an error of this package."""

REFUSED = 2
"""Exit status after a mistake of the user, or where the system lacks room or memory."""

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""

READER_GONE = 141
"""Exit status where nobody reads standard output any more, as after ``| head``."""

# typer may use the installed click or one of its own; its public BadParameter knows which
_UsageError: type[Exception] = next(
    c for c in typer.BadParameter.__mro__ if c.__name__ == "UsageError" and issubclass(c, Exception)
)


class _Signalled(SystemExit):
    """Unwinds the program, so that temporary files and processes go; 143 is SIGTERM, 129 SIGHUP."""


def main() -> None:
    """Run the command; mistakes are one line and exit status 2."""
    _open_streams()
    _heed_signals()
    try:
        status = _run()
    except StreamError as error:
        status = _lost(error)
    _silence_if_broken(sys.stdout)
    _silence_if_broken(sys.stderr)
    sys.exit(status)


def _run() -> int:
    try:
        from pmsm_hw.cli.program import app

        status = app(standalone_mode=False)
        broken = _flushes(sys.stdout)
        if broken is not None:
            raise StreamError(broken)
    except KeyboardInterrupt:
        status = INTERRUPTED
    except StreamError:
        raise
    except _UsageError as error:
        return _usage(error)
    except PmsmHwError as error:
        return _refuse(in_cli_terms(str(error), sys.argv[1:]))
    except MemoryError as error:
        return _refuse(
            f"memory: is not enough ({error or 'none left'}); "
            "give fewer samples, fewer time steps or a smaller network"
        )
    except _Signalled as error:
        say("pmsm-hw: terminated; no file is half written")
        return int(str(error.code))
    except SystemExit as error:
        return _exit_called(error)
    except typer.Abort as error:
        return _unexpected(error.__cause__ or error)
    except Exception as error:  # the boundary of the process: whatever it is, it is told
        return _unexpected(error)
    if status == INTERRUPTED:
        say("pmsm-hw: interrupted; no file is half written")
    return int(status or 0)


def _unexpected(error: BaseException) -> int:
    """End after what no command foresaw: by whose code, is the question."""
    where = _users_line(error)
    if where is not None:
        return _refuse(f"{where}: {_told(error)}; correct this code")
    if isinstance(error, OSError):
        if error.filename is None and _while_printing(error):
            return _lost(StreamError(error))
        subject = f"file '{error.filename}'" if error.filename is not None else "system"
        remedy = "check the path, its permissions and the room on the disk"
        return _refuse(f"{subject}: {error.strerror or _told(error)}; {remedy}")
    with suppress(OSError):
        traceback.print_exception(error)
    say(
        f"pmsm-hw: internal error: {_told(error)}; your input is not to blame: please report it, "
        "with the lines above, where you got pmsm-hw from"
    )
    return INTERNAL


def _exit_called(error: SystemExit) -> int:
    """End where something called ``sys.exit``: click, or the user's code."""
    cause = error.__context__
    if isinstance(cause, OSError) and cause.errno == errno.EPIPE:  # click's way
        return READER_GONE
    where = _users_line(error)
    if where is None:
        raise error
    return _refuse(f"{where}: calls sys.exit({error.code!r}); let it return instead")


def _users_line(error: BaseException) -> str | None:
    """Name the line of the user's own code that raised, None where the code is ours."""
    library = os.path.realpath(sysconfig.get_path("stdlib"))
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        if str(frame.f_globals.get("__name__")).partition(".")[0] == "pmsm_hw":
            return None
        name = frame.f_code.co_filename
        path = Path(os.path.realpath(name))
        installed = {"site-packages", "dist-packages"}.intersection(path.parts)
        if not (name.startswith("<") or installed or path.is_relative_to(library)):
            return f"'{name}', line {line}"
    return None


def _while_printing(error: BaseException) -> bool:
    """Tell whether click or rich raised, which print what `answer` does not."""
    printing = False
    for frame, _ in traceback.walk_tb(error.__traceback__):
        package = str(frame.f_globals.get("__name__")).partition(".")[0]
        printing = package != "pmsm_hw" and (printing or package in ("click", "rich", "typer"))
    return printing


def _told(error: BaseException) -> str:
    return ": ".join(part for part in (type(error).__name__, str(error)[:500]) if part)


def _refuse(line: str) -> int:
    say(f"pmsm-hw: {' '.join(line.split())}")
    return REFUSED


def _usage(error: Any) -> int:
    if type(error).__name__ == "NoArgsIsHelpError":
        with suppress(OSError):
            error.show()
        return REFUSED
    command = error.ctx.command_path if error.ctx is not None else "pmsm-hw"
    return _refuse(f"{error.format_message()} (see '{command} --help')")


# -- streams and signals -------------------------------------------------------------------


def _open_streams() -> None:
    """Make standard streams that were closed into some that take nothing.

    Else the next file that is opened would get their number, and what is printed.
    """
    for number, mode in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)  # takes the lowest free number
    if sys.stdout is None:  # open for reading alone: what is printed is refused, and that is told
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
    if hasattr(sys.stdout, "reconfigure"):  # any name can be printed, in any locale
        sys.stdout.reconfigure(errors="backslashreplace")


def _heed_signals() -> None:
    """Unwind on SIGTERM and SIGHUP, unless the caller had them ignored (nohup)."""

    def end(number: int, frame: object) -> None:
        raise _Signalled(128 + number)

    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, end)


def _flushes(stream: TextIO) -> OSError | None:
    """Print what is left; None, or why it cannot be."""
    try:
        stream.flush()
    except OSError as error:
        return error
    return None


def _lost(error: StreamError) -> int:
    if isinstance(error.cause, BrokenPipeError):
        return READER_GONE
    reason = error.cause.strerror or str(error.cause)
    return _refuse(
        f"standard output: cannot be written ({reason}); let it go to a place with enough room"
    )


def _silence_if_broken(stream: TextIO) -> None:
    """Let Python's last flush go nowhere where a flush fails."""
    if _flushes(stream) is not None:
        with suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())
            os.close(null)

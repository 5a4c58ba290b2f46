"""Archives of `torch.save`, checked before torch reads them.

torch trusts what an archive says of its own sizes: a wrong one is read past its end, and damaged
values are taken for values. Here checksums and sizes are compared first; a file that is sound
takes as much memory as its bytes.
"""

from __future__ import annotations

import os
import pickletools
import re
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from pmsm_hw.errors import FormatError
from pmsm_hw.reading import regular_size

__all__ = ["read_tensors"]

_MAGIC = b"PK\x03\x04"
_LARGEST_DESCRIPTION = 1 << 24
_ENCRYPTED = 1
_MARK = object()
_ITEM_BYTES = {
    "Double": 8, "Float": 4, "Half": 2, "BFloat16": 2, "Long": 8, "Int": 4, "Short": 2, "Char": 1,
    "Byte": 1, "Bool": 1, "ComplexDouble": 16, "ComplexFloat": 8, "Untyped": 1,
}  # fmt: skip


def read_tensors(path: str | os.PathLike[str], *, what: str, remedy: str) -> Any:
    """Read what `torch.save` wrote: tensors and plain values, with ``weights_only=True``.

    Parameters
    ----------
    path
        The file.
    what
        What it should hold, for the message: ``"a state dict"``.
    remedy
        What to do if it does not.

    Raises
    ------
    FormatError
        If it is absent, no regular file, damaged, or holds anything else; nothing is warned of.
    """
    try:
        size = regular_size(path)
        with Path(path).open("rb") as file:
            is_archive = file.read(4) == _MAGIC
        if is_archive:  # else torch's format before 1.6, which it reads piece by piece
            _check(path, size)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, weights_only=True, map_location="cpu")
    except Exception as cause:  # torch and pickle raise all kinds on what is damaged
        raise FormatError(
            f"file '{os.fspath(path)}'",
            f"cannot be read as {what}: {_reason(cause)}",
            remedy=remedy,
            actual=type(cause).__name__,
            limit=what,
        ) from cause


def _reason(cause: Exception) -> str:
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    if isinstance(cause, ValueError | zipfile.BadZipFile | MemoryError):
        lines = str(cause).strip().splitlines()
        return lines[0][:200] if lines else "it does not fit into memory"
    return "it is not an archive of tensors alone"  # torch's texts are a page long


def _check(path: str | os.PathLike[str], size: int) -> None:
    """Raise ValueError unless members, checksums and the sizes of storages agree."""
    with zipfile.ZipFile(path) as archive:
        members = {member.filename: member for member in archive.infolist()}
        if len(members) != len(archive.infolist()):
            raise ValueError("two members have one name")
        for name, member in members.items():
            stored = member.compress_type == zipfile.ZIP_STORED
            if (
                not stored
                or member.file_size != member.compress_size
                or member.flag_bits & _ENCRYPTED
            ):
                raise ValueError(f"member {name!a} is compressed, which torch.save does not do")
        if sum(member.file_size for member in members.values()) > size:
            raise ValueError("its members are larger than the file")
        descriptions = [name for name in members if name.rpartition("/")[2] == "data.pkl"]
        if len(descriptions) != 1:
            raise ValueError(f"{len(descriptions)} members are named data.pkl, 1 is expected")
        damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"member {damaged!a} is damaged, its checksum is another")
        (description,) = descriptions
        n_bytes = members[description].file_size
        if n_bytes > _LARGEST_DESCRIPTION:
            raise ValueError(
                f"its data.pkl has {n_bytes:,} bytes, the limit is {_LARGEST_DESCRIPTION:,}"
            )
        folder = description.rpartition("/")[0]
        for key, n_expected in _storages(archive.read(description)):
            record = members.get(f"{folder}/data/{key}")
            if record is None or record.file_size != n_expected:
                has = "is absent" if record is None else f"has {record.file_size:,} bytes"
                raise ValueError(
                    f"the values {key!a} take {n_expected:,} bytes, their member {has}"
                )


def _storages(pickled: bytes) -> Iterator[tuple[str, int]]:
    """Name and size in bytes of each storage that a description refers to; nothing is executed."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    for opcode, argument, _ in pickletools.genops(pickled):
        name = opcode.name
        if name == "MARK":
            stack.append(_MARK)
        elif name == "GLOBAL" or "UNICODE" in name or "INT" in name or name.startswith("LONG"):
            if name.startswith("LONG_BIN"):
                _memory(name.removeprefix("LONG_"), argument, stack, memo)
            else:
                stack.append(argument)
        elif name in ("BINGET", "BINPUT", "MEMOIZE"):
            _memory(name, argument, stack, memo)
        elif name == "STACK_GLOBAL":
            stack[-2:] = [f"{stack[-2]} {stack[-1]}"]
        elif name == "TUPLE":
            begin = len(stack) - 1 - stack[::-1].index(_MARK)
            stack[begin:] = [tuple(stack[begin + 1 :])]
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            n = int(name[-1])
            stack[-n:] = [tuple(stack[-n:])]
        elif name == "BINPERSID":
            yield _storage(stack.pop())
            stack.append(None)
        else:
            before = opcode.stack_before
            if pickletools.markobject in before:
                del stack[len(stack) - 1 - stack[::-1].index(_MARK) :]
                before = before[: before.index(pickletools.markobject)]
            if len(stack) < len(before):
                raise ValueError("its data.pkl is damaged")
            del stack[len(stack) - len(before) :]
            stack += [None] * len(opcode.stack_after)


def _memory(name: str, argument: Any, stack: list[Any], memo: dict[int, Any]) -> None:
    if name == "BINGET":
        stack.append(memo[argument])
    else:
        memo[len(memo) if name == "MEMOIZE" else argument] = stack[-1]


def _storage(reference: Any) -> tuple[str, int]:
    kind, of_type, key, _, n = reference
    match = re.fullmatch(r"torch(?:\.storage)? (\w+)Storage", of_type)
    if kind != "storage" or match is None or not isinstance(key, str) or type(n) is not int:
        raise ValueError("its data.pkl is damaged")
    if match[1] not in _ITEM_BYTES:
        raise ValueError(f"it holds values of type {match[1]}, which are not read")
    return key, n * _ITEM_BYTES[match[1]]

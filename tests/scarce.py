"""A system that lacks something, for tests: room on the disk, or the right to write."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager

import pytest


@contextmanager
def no_file_above(n_bytes):
    """Inside, this process can write no file beyond so many bytes, as under ``ulimit -f``."""
    import resource

    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


@contextmanager
def small_disk(folder, *, read_only=False):
    """Inside, the folder is a disk of 64 kB; skips where none can be mounted."""
    _mount("-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder))
    try:
        if read_only:
            subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@contextmanager
def bound(source, target):
    """Inside, a file is mounted over another one; skips where that cannot be."""
    _mount("--bind", str(source), str(target))
    try:
        yield target
    finally:
        subprocess.run(["umount", str(target)], check=True)


def _mount(*arguments):
    command = ["mount", *arguments]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a disk: run as root, in a container that may mount")

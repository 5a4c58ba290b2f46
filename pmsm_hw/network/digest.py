"""SHA-256 of everything that decides what a network computes."""

from __future__ import annotations

import hashlib
from dataclasses import fields
from typing import TYPE_CHECKING

import numpy as np

from pmsm_hw.network.populations import Population
from pmsm_hw.network.projections import Projection

if TYPE_CHECKING:
    from pmsm_hw.network.graph import Network

__all__ = ["fingerprint_of"]


def fingerprint_of(network: Network) -> str:
    """See `Network.fingerprint`.

    Parameters
    ----------
    network
        Which.
    """
    digest = hashlib.sha256()
    items: tuple[Population | Projection, ...] = (*network.populations, *network.projections)
    for item in items:
        digest.update(f"{item.kind};".encode())
        for f in fields(item):
            value = getattr(item, f.name)
            if isinstance(value, np.ndarray):
                digest.update(f"{f.name}:{value.dtype.str}{value.shape};".encode())
                digest.update(value.tobytes())
            else:
                digest.update(f"{f.name}={value!r};".encode())
    digest.update(f"max_steps={network.max_steps}".encode())
    return digest.hexdigest()

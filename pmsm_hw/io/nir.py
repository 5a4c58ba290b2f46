"""Exchange with NIR, the Neuromorphic Intermediate Representation (doi:10.1038/s41467-024-52259-9).

Export writes nodes that any reader of NIR understands, and metadata that carry the network exactly.
Import takes such files back without loss, and turns general graphs of linear nodes and
integrate-and-fire neurons into integers. ``docs/format.md`` lists what is kept and what is not.

Files are read without the nir package: it follows links, allocates what a file claims and recurses
as deep as a file says. Writing uses it.
"""

from __future__ import annotations

import os
from collections import Counter
from io import BytesIO
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from pmsm_hw.errors import FormatError
from pmsm_hw.files import check_output, replacing
from pmsm_hw.io.nir_export import PREFIX, PlainGraph, plain_graph, shifted_type
from pmsm_hw.io.nir_import import ImportOptions, network_from_graph
from pmsm_hw.io.schema import (
    MAX_ITEMS,
    at_most,
    check_limits,
    network_from,
    one_line,
    refuse,
    subject_of,
)
from pmsm_hw.io.untrusted import Reader, open_untrusted, refuse_other_kinds
from pmsm_hw.network import (
    MAX_WEIGHT_EXPONENT,
    MIN_WEIGHT_EXPONENT,
    POPULATION_KINDS,
    PROJECTION_KINDS,
    Network,
)
from pmsm_hw.network.digest import is_digest_of
from pmsm_hw.network.fields import Spec, arrays_of, attributes_of, fields_of

if TYPE_CHECKING:
    import h5py

__all__ = ["import_nir", "load_nir", "save_nir"]

METADATA_VERSION = 2
READ_VERSIONS = (1, METADATA_VERSION)
"""Of the metadata that carry a network exactly; 1 had other forms of convolutions and pools."""

NIR_MAJOR = 1
"""Newest major version of the nir package whose nodes are known."""

MAX_CHECKED_EDGES = 2_000
"""Most edges of a graph that nir's type check is tried on: its time is quadratic in them."""

_MAX_OBJECTS = 20 * MAX_ITEMS
_MAX_DEPTH = 6


# ---------------------------------------------------------------------------------------------
# Export
# ---------------------------------------------------------------------------------------------


def save_nir(path: str | os.PathLike[str], network: Network) -> tuple[str, ...]:
    """Write a network as a NIR graph; needs the nir package.

    Populations become Input, IF and I nodes (the latter with an Output), projections become Linear,
    Affine, Conv and Scale nodes, in integers. NIR has no polarity multi-spike neuron: metadata of
    the nodes carry what is missing, and `load_nir` gives the network back exactly. Other readers
    run the IF nodes as they are.

    Parameters
    ----------
    path
        File to write or replace; appears whole or not at all.
    network
        What to write.

    Returns
    -------
    tuple of str
        What readers that ignore the metadata will get wrong, one sentence each.

    Raises
    ------
    FormatError
        If the nir package is missing, the network exceeds what files hold, or the file cannot be
        written.
    """
    subject = subject_of(path, network)
    try:
        import nir
    except ImportError as error:
        raise FormatError(
            subject,
            f"cannot be written without the nir package ({error})",
            remedy="pip install 'pmsm-hw[nir]'",
        ) from error
    check_output(path)
    plain = plain_graph(subject, network)
    metadata = {
        "version": METADATA_VERSION,
        "name": network.name,
        "max_steps": network.max_steps,
        "digest": network.fingerprint,
    }
    graph = nir.NIRGraph(
        nodes=_nir_nodes(plain),
        edges=plain.edges,
        metadata={PREFIX + key: value for key, value in metadata.items()},
        type_check=False,
    )
    made = BytesIO()  # HDF5 does not survive a full disk
    nir.write(made, graph)
    with replacing(path) as file:
        file.write(made.getbuffer())
    return (*plain.notes, *_type_check_notes(plain))


def _nir_nodes(plain: PlainGraph) -> dict[str, Any]:
    import nir

    return {key: nir.dict2NIRNode(dict(node)) for key, node in plain.nodes.items()}


def _type_check_notes(plain: PlainGraph) -> list[str]:
    """Whether nir reads the graph with its type check, as it does by default: tried."""
    import nir

    remedy = "read it with nir.read(path, type_check=False)"
    if len(plain.edges) > MAX_CHECKED_EDGES:
        return [
            f"nir's type check was not tried on {len(plain.edges):,} edges; if need be {remedy}"
        ]
    try:
        nir.NIRGraph(_nir_nodes(plain), list(plain.edges), metadata={}, type_check=True)
    except (ValueError, AssertionError, TypeError, IndexError, KeyError) as error:
        return [
            f"nir {nir.version} refuses the graph by its type check ({one_line(error)}); {remedy}"
        ]
    return []


# ---------------------------------------------------------------------------------------------
# Import
# ---------------------------------------------------------------------------------------------


def load_nir(
    path: str | os.PathLike[str],
    *,
    name: str | None = None,
    max_steps: int | None = None,
    input_scale: float | None = None,
    input_levels: tuple[int, int] | None = None,
    levels: tuple[int, int] | None = None,
) -> Network:
    """Read a NIR file; `import_nir` also says what is not exactly as the file has it.

    A file that `save_nir` wrote gives back its network exactly, and takes none of the other
    parameters. Of a general graph, Affine, Linear, Conv1d, Conv2d, Flatten, SumPool2d, AvgPool2d,
    Scale, IF, I, Input and Output nodes are taken. What is a multiple of one step is taken over
    exactly; else weights are rounded to 8 bits per channel, thresholds and biases to up to 6 bits
    more. Neurons carry what is left over a threshold on to
    the next step (Sinabs' and Loihi's usual subtraction), where NIR's IF proper resets to 0, and
    fire at the threshold, where NIR's fire above it. Pooling in front of a linear node gets a relay
    population. An Output fed by neurons becomes a readout that counts their spikes.

    Parameters
    ----------
    path
        The file; it may be hostile.
    name
        Of the network; the file's name by default.
    max_steps
        Largest number of steps to prove the state for; 16 by default.
    input_scale, input_levels
        Of the input populations, see `Input`; 1 and (0, 255) by default: whole numbers.
    levels
        ``(n, p)`` of the neurons: (0, 1), the default, is NIR's IF; a larger p lets a neuron send
        several spikes a step (as Sinabs' neurons do).

    Returns
    -------
    Network

    Raises
    ------
    FormatError
        If the file is damaged, or holds what cannot be represented (the node is named), or has a
        network of `save_nir` and one of the other parameters is given.
    """
    network, _ = import_nir(
        path,
        name=name,
        max_steps=max_steps,
        input_scale=input_scale,
        input_levels=input_levels,
        levels=levels,
    )
    return network


def import_nir(
    path: str | os.PathLike[str],
    *,
    name: str | None = None,
    max_steps: int | None = None,
    input_scale: float | None = None,
    input_levels: tuple[int, int] | None = None,
    levels: tuple[int, int] | None = None,
) -> tuple[Network, tuple[str, ...]]:
    """Read a NIR file, as `load_nir`, and say where the network is not exactly what it says.

    Parameters
    ----------
    path, name, max_steps, input_scale, input_levels, levels
        As for `load_nir`.

    Returns
    -------
    network : Network
        What `load_nir` gives.
    notes : tuple of str
        What differs from NIR's definition, was taken for granted or was rounded, one sentence each.
        None for a file that `save_nir` wrote.

    Raises
    ------
    FormatError
        As for `load_nir`.
    """
    subject = subject_of(path)
    with open_untrusted(path) as reader:
        refuse_other_kinds(reader, "nir")
        content = _tree(reader)
    graph = content.get("node")
    if not isinstance(graph, dict) or graph.get("type") != "NIRGraph":
        refuse(subject, "holds no NIR graph ('/node' of type NIRGraph)", "give a NIR file", "node")
    version = content.get("version")
    major = version.split(".")[0] if isinstance(version, str) else ""
    if major.isdecimal() and int(major) > NIR_MAJOR:
        refuse(
            subject,
            f"was written by nir {version:.20}, whose nodes may mean something else; up to "
            f"{NIR_MAJOR}.x is read",
            "write it with an older nir, or use a newer pmsm-hw",
            version,
            f"{NIR_MAJOR}.x",
        )
    metadata = graph.get("metadata", {})
    given: dict[str, Any] = {
        "name": name,
        "max_steps": max_steps,
        "input_scale": input_scale,
        "input_levels": input_levels,
        "levels": levels,
    }
    given = {option: value for option, value in given.items() if value is not None}
    if isinstance(metadata, dict) and PREFIX + "version" in metadata:
        for option, value in given.items():
            refuse(
                subject,
                f"holds a network of pmsm-hw with its own {option}, {option} {value!r:.40} would "
                "have no effect",
                f"leave {option} out",
                value,
                "a general NIR graph",
            )
        return _exact(subject, graph, metadata), ()
    if max_steps is not None and not isinstance(max_steps, int | np.integer):
        refuse(
            subject,
            f"max_steps {max_steps!r:.40} is not an integer",
            "give the largest number of steps you will run",
            max_steps,
            "an integer",
        )
    options = ImportOptions(**{"name": os.path.splitext(os.path.basename(path))[0], **given})
    return network_from_graph(subject, graph, options)


def _tree(reader: Reader) -> dict[str, Any]:
    """Groups as dictionaries, datasets as arrays, numbers and texts; every claim checked."""
    import h5py

    seen: set[object] = set()

    def group(parent: h5py.Group, depth: int) -> dict[str, Any]:
        if depth > _MAX_DEPTH:
            reader.refuse(f"'{parent.name}' is nested deeper than {_MAX_DEPTH} groups", depth)
        found: dict[str, Any] = {}
        for key in parent:
            item = reader.child(parent, key, (h5py.Group, h5py.Dataset))
            info = h5py.h5o.get_info(item.id)
            # an object with two names could make a cycle, or multiply what is read
            if (info.fileno, info.addr) in seen:
                reader.refuse(f"'{item.name}' is a second name of an object, none is read", key)
            seen.add((info.fileno, info.addr))
            if len(seen) > _MAX_OBJECTS:
                reader.refuse(f"holds more than {_MAX_OBJECTS:,} objects", len(seen), _MAX_OBJECTS)
            if isinstance(item, h5py.Group):
                found[key] = group(item, depth + 1)
            elif h5py.check_string_dtype(item.dtype) is not None:
                found[key] = reader.texts(item)
            elif item.dtype.kind in "iufb":
                found[key] = reader.values(item, 5)
            else:
                reader.refuse(
                    f"dataset '{item.name}' has type {item.dtype}, numbers and texts are read"
                )
        return found

    return group(reader.file, 0)


def _exact(subject: str, graph: dict[str, Any], metadata: dict[str, Any]) -> Network:
    """The network that our own metadata carry."""

    def bad(what: str, value: object) -> NoReturn:
        refuse(
            subject,
            f"metadata of {what} are damaged ({' '.join(repr(value).split()):.80})",
            "write it again with pmsm_hw.io.save_nir",
            type(value).__name__,
        )

    own = _unprefixed(metadata)
    version = _field("int", own.get("version"))
    if version not in READ_VERSIONS:
        refuse(
            subject,
            f"has metadata version {version}, this release reads "
            f"{' and '.join(map(str, READ_VERSIONS))}",
            "use the release that wrote it, or a newer one",
            version,
            READ_VERSIONS,
        )
    name, max_steps = _field("text", own.get("name")), _field("int", own.get("max_steps"))
    if name is None or max_steps is None:
        bad("the graph", own)
    nodes = graph.get("nodes")
    if not isinstance(nodes, dict):
        bad("the graph", "no nodes")
    items: dict[int, dict[str, Any]] = {}
    for key, node in nodes.items():
        if not isinstance(node, dict):
            bad(f"node '{key}'", node)
        if "metadata" not in node:
            continue  # for other readers; `_check_unchanged` looks at them
        fields = _unprefixed(node.get("metadata"))
        kind = _field("text", fields.get("kind"))
        if kind not in POPULATION_KINDS and kind not in PROJECTION_KINDS:
            bad(f"node '{key}'", kind)
        item: dict[str, Any] = {}
        for field, spec in attributes_of(kind).items():
            item[field] = _field(spec, fields.get(field))
            if item[field] is None:
                bad(f"node '{key}', field '{field}'", fields.get(field))
        check_limits(f"{subject}: node '{key}'", item)
        for field, dtype in arrays_of(kind).items():
            array = fields.get(field)
            if field == "weight" and array is None:
                array = _unshifted(node.get("weight"), _field("int", fields.get("shift")))
            if field == "delays" and array is None:
                item[field] = None
                continue
            if not isinstance(array, np.ndarray) or array.dtype != np.dtype(dtype):
                bad(f"node '{key}', field '{field}'", array)
            scalar = kind in POPULATION_KINDS or _field("int", fields.get("weight_axes")) == 0
            item[field] = array.reshape(()) if array.size == 1 and scalar else array
        index = _field("int", fields.get("index"))
        if index is None or index in items:
            bad(f"node '{key}', field 'index'", index)
        items[index] = item
    ordered = [items[i] for i in sorted(items)]
    n_populations = sum(item["kind"] in POPULATION_KINDS for item in ordered)
    at_most(subject, "number of populations", n_populations, MAX_ITEMS)
    at_most(subject, "number of projections", len(ordered) - n_populations, MAX_ITEMS)
    network = network_from(subject, name, max_steps, ordered)
    content = (
        network.name,
        network.max_steps,
        [fields_of(p) for p in network.populations],
        [fields_of(q) for q in network.projections],
    )
    if not is_digest_of(str(own.get("digest")), *content):
        bad("the graph", "the digest does not match")
    if version == METADATA_VERSION:
        _check_unchanged(subject, graph, network)
    return network


def _check_unchanged(subject: str, graph: dict[str, Any], network: Network) -> None:
    """Refuse a graph whose nodes or edges are not those of the network that its metadata carry.

    Inputs and Outputs may have been added: nir does so to nodes without an input or an output.
    """

    def changed(what: str, problem: str) -> NoReturn:
        refuse(
            f"{subject}: {what}",
            f"{problem}, but not the metadata of pmsm-hw that carry the network",
            "write it again with pmsm_hw.io.save_nir, or remove all metadata pmsm_hw_* to have it "
            "read as a graph of another origin",
            what,
        )

    expected = plain_graph(subject, network)
    nodes, edges = graph["nodes"], graph.get("edges")
    if not isinstance(edges, list) or not all(isinstance(e, list) and len(e) == 2 for e in edges):
        changed("the graph", "its edges were changed")
    for key, node in expected.nodes.items():
        if key not in nodes:
            changed(f"node '{key}'", "was removed")
        for field, value in node.items():
            if field != "metadata" and not _is_same(value, nodes[key].get(field)):
                changed(f"node '{key}'", f"its field '{field}' was changed")
        for field in nodes[key].keys() - node.keys() - {"metadata"}:
            changed(f"node '{key}'", f"a field '{field}' was added")
    added = {key: node.get("type") for key, node in nodes.items() if key not in expected.nodes}
    before, now = set(expected.edges), [(str(a), str(b)) for a, b in edges]
    fed, feeds = {b for _, b in before}, {a for a, _ in before}
    for edge in before - set(now):
        changed(f"node '{edge[1]}'", f"the edge from '{edge[0]}' was removed")
    for (source, target), n in Counter(now).items():
        by_nir = (added.get(source) == "Input" and target not in fed) or (
            added.get(target) == "Output" and source not in feeds
        )
        if n > 1 or ((source, target) not in before and not by_nir):
            changed(f"node '{target}'", f"an edge from '{source}' was added")
    for key, kind in added.items():
        if kind not in ("Input", "Output"):
            changed(f"node '{key}'", "was added")


def _is_same(a: object, b: object) -> bool:
    """Whether a field of a node holds what it should, in whatever type of number."""
    if isinstance(a, str) or isinstance(b, str) or b is None or isinstance(b, dict | list):
        return a == b
    return np.array_equal(np.asarray(a), np.asarray(b))


def _unprefixed(metadata: object) -> dict[str, Any]:
    if not isinstance(metadata, dict):
        return {}
    return {k[len(PREFIX) :]: v for k, v in metadata.items() if k.startswith(PREFIX)}


def _field(spec: Spec, value: object) -> Any:
    """Value of a field in the form of `schema`, or None if it is not of that form."""
    if spec == "text":
        return value if isinstance(value, str) else None
    if not isinstance(value, np.ndarray):
        return None
    n_axes = {"ints": 1, "pairs": 2}.get(spec, 0)
    kinds = "f" if spec == "float" else "i"
    good = value.dtype.kind in kinds and value.ndim == n_axes
    return value.tolist() if good and all(1 <= n <= 3 for n in value.shape) else None


_MOST_SHIFTED = MAX_WEIGHT_EXPONENT - MIN_WEIGHT_EXPONENT


def _unshifted(weight: object, shift: int | None) -> object:
    if not isinstance(weight, np.ndarray) or shift is None or weight.dtype.kind != "i":
        return None
    if shift == 0:
        return weight
    if not 0 < shift <= _MOST_SHIFTED or weight.dtype != shifted_type(shift):
        return None
    unshifted = weight >> shift
    exact = np.array_equal(unshifted << shift, weight) and np.abs(unshifted).max() <= 128
    return unshifted.astype(np.int8) if exact else None

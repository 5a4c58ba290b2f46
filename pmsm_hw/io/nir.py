"""Exchange with NIR, the Neuromorphic Intermediate Representation (doi:10.1038/s41467-024-52259-9).

Export writes nodes that any reader of NIR understands, and metadata that carry the network exactly.
Import takes such files back without loss, and turns general graphs of linear nodes and
integrate-and-fire neurons into integers. ``docs/format.md`` lists what is kept and what is not.

Files are read without the nir package: it follows links, allocates what a file claims and recurses
as deep as a file says. Writing uses it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from io import BytesIO
from typing import TYPE_CHECKING, Any, NoReturn, cast

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.errors import FormatError
from pmsm_hw.files import replacing
from pmsm_hw.io.nir_import import ImportOptions, network_from_graph
from pmsm_hw.io.schema import (
    MAX_ITEMS,
    Spec,
    arrays_of,
    at_most,
    attributes_of,
    check_limits,
    check_work,
    digest_of,
    fields_of,
    network_from,
    refuse,
    text_bytes,
)
from pmsm_hw.io.untrusted import Reader, open_untrusted, refuse_other_kinds
from pmsm_hw.network import (
    POPULATION_KINDS,
    PROJECTION_KINDS,
    Conv1d,
    Conv2d,
    Dense,
    Identity,
    Input,
    Network,
    PolarityMultiSpike,
    Population,
    Projection,
    Readout,
    SumPool,
)

if TYPE_CHECKING:
    import h5py

__all__ = ["import_nir", "load_nir", "save_nir"]

METADATA_VERSION = 1
"""Of the metadata that carry a network exactly."""

_PREFIX = "pmsm_hw_"
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
    subject = f"file '{os.fspath(path)}'"
    try:
        import nir
    except ImportError as error:
        raise FormatError(
            subject,
            f"cannot be written without the nir package ({error})",
            remedy="pip install 'pmsm-hw[nir]'",
        ) from error
    nodes, edges, notes = _graph(subject, network)
    populations, projections = (
        [fields_of(item) for item in items] for items in (network.populations, network.projections)
    )
    metadata = {
        "version": METADATA_VERSION,
        "name": network.name,
        "max_steps": network.max_steps,
        "digest": digest_of(network.name, network.max_steps, populations, projections),
    }
    graph = nir.NIRGraph(
        nodes=nodes,
        edges=edges,
        metadata={_PREFIX + key: value for key, value in metadata.items()},
        type_check=False,
    )
    made = BytesIO()  # HDF5 does not survive a full disk
    nir.write(made, graph)
    with replacing(path) as file:
        file.write(made.getbuffer())
    return tuple(notes)


def _graph(
    subject: str, network: Network
) -> tuple[dict[str, Any], list[tuple[str, str]], list[str]]:
    import nir

    items: list[Population | Projection] = [*network.populations, *network.projections]
    for what, group in (
        ("populations", network.populations),
        ("projections", network.projections),
    ):
        at_most(subject, f"number of {what}", len(group), MAX_ITEMS)
    fields = [fields_of(item) for item in items]
    for values in fields:
        check_limits(f"{values['kind']} '{values['name']}'", values)
        for field in ("name", "source", "target"):
            text_bytes(subject, field, values.get(field, ""))
    text_bytes(subject, "name", network.name)
    n = len(network.populations)
    check_work(subject, fields[:n], fields[n:], network.max_steps)
    taken: set[str] = {".", ".."}
    keys: dict[int, str] = {}
    for i, item in enumerate(items):
        keys[i] = _free(item.name, taken)
    key_of = {p.name: keys[i] for i, p in enumerate(network.populations)}
    # a shift that all projections into a population share is the resistance of its neurons
    shift_of = {
        p.name: min((q.weight_exponent for q in network.into(p.name)), default=0) for p in network
    }
    nodes: dict[str, Any] = {}
    edges: list[tuple[str, str]] = []
    notes: list[str] = []
    bias_left = {
        p.name: p.bias / 2.0 ** shift_of[p.name]
        for p in network
        if isinstance(p, PolarityMultiSpike | Readout) and p.bias.any()
    }
    for i, item in enumerate(items):
        metadata = _metadata(i, fields[i])
        if isinstance(item, Population):
            nodes[keys[i]] = _population_node(nir, item, shift_of[item.name], metadata)
            if isinstance(item, Readout):
                output = _free(f"{keys[i]}_output", taken)
                nodes[output] = nir.Output(output_type=np.array(item.shape))
                edges.append((keys[i], output))
            notes += _population_notes(item)
            continue
        shift = item.weight_exponent - shift_of[item.target]
        metadata[_PREFIX + "shift"] = shift
        source, target = network[item.source], network[item.target]
        bias = bias_left.get(target.name)
        if bias is not None and _takes_bias(item, bias):
            bias_left.pop(target.name)
        else:
            bias = None
        nodes[keys[i]] = _projection_node(nir, item, source, target, shift, bias, metadata)
        first = keys[i]
        if isinstance(item, Dense) and len(source.shape) > 1:
            first = _free(f"{keys[i]}_flatten", taken)
            nodes[first] = nir.Flatten({"input": np.array(source.shape)}, start_dim=0)
            edges.append((first, keys[i]))
        edges += [(key_of[item.source], first), (keys[i], key_of[item.target])]
        notes += _projection_notes(item, target)
    notes += [f"bias of '{name}' is in its metadata only" for name in bias_left]
    return nodes, edges, notes


def _free(key: str, taken: set[str]) -> str:
    """A node key like this one that is not taken; takes it."""
    while key in taken:
        key += "_"
    taken.add(key)
    return key


def _metadata(index: int, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of an item as NIR keeps them: texts, integers, arrays of at least one axis."""
    kind = fields["kind"]
    found: dict[str, Any] = {"index": index}
    for name, spec in attributes_of(kind).items():
        value = fields[name]
        found[name] = np.asarray(value) if spec in ("ints", "pairs") else value
    for name, dtype in arrays_of(kind).items():
        if name == "weight" and kind not in ("sum_pool", "identity"):
            continue  # the node itself has it
        found[name] = np.atleast_1d(fields[name]).astype(dtype)
        if name == "weight":
            found["weight_axes"] = int(np.ndim(fields[name]))
    return {_PREFIX + name: value for name, value in found.items()}


def _population_node(nir: Any, item: Population, shift: int, metadata: dict[str, Any]) -> Any:
    if isinstance(item, Input):
        return nir.Input(input_type=np.array(item.shape), metadata=metadata)
    resistance = np.full(item.shape, 2.0**shift, np.float32)
    if isinstance(item, PolarityMultiSpike):
        threshold = np.broadcast_to(item.theta, item.shape).astype(np.float32)
        return nir.IF(r=resistance, v_threshold=threshold, metadata=metadata)
    return nir.I(r=resistance, metadata=metadata)


def _takes_bias(item: Projection, bias: NDArray[Any]) -> bool:
    if isinstance(item, Dense):
        return True
    per_channel = bias.ndim == 0 or all(n == 1 for n in bias.shape[1:])
    return isinstance(item, Conv1d | Conv2d) and per_channel


def _projection_node(
    nir: Any,
    item: Projection,
    source: Population,
    target: Population,
    shift: int,
    bias: NDArray[Any] | None,
    metadata: dict[str, Any],
) -> Any:
    weight: NDArray[Any] = item.weight
    if shift:
        weight = weight.astype(np.int16) << shift
    if isinstance(item, Dense):
        if bias is None:
            return nir.Linear(weight=weight, metadata=metadata)
        full = np.broadcast_to(bias, target.shape).reshape(-1).astype(np.float32)
        return nir.Affine(weight=weight, bias=full, metadata=metadata)
    if isinstance(item, Identity):
        scale = weight.reshape(-1, *(1,) * (len(source.shape) - 1)) if weight.ndim else weight
        full = np.broadcast_to(scale, source.shape).astype(np.float32)
        return nir.Scale(scale=full, metadata=metadata)
    channels = target.shape[0]
    if isinstance(item, SumPool):
        plain = not shift and np.all(weight == 1) and len(item.kernel) == 2
        if plain and all(a == b for a, b in item.padding):
            return nir.SumPool2d(
                kernel_size=np.array(item.kernel),
                stride=np.array(item.stride),
                padding=np.array([a for a, _ in item.padding]),
                metadata=metadata,
            )
        shape = (channels, 1, *item.kernel)
        weight = np.broadcast_to(weight.reshape(-1, *(1,) * (len(shape) - 1)), shape).copy()
        stride, padding, dilation = item.stride, item.padding, (1,) * len(item.kernel)
        groups = channels
    else:
        conv = cast(Conv2d, item)
        stride, padding, dilation, groups = conv.stride, conv.padding, conv.dilation, conv.groups
    zeros = np.zeros(channels, np.float32)
    full = zeros if bias is None else np.broadcast_to(bias.reshape(-1), channels).astype(np.float32)
    arguments = {
        "weight": weight,
        "groups": groups,
        "bias": full,
        "metadata": metadata,
    }
    before = [a for a, _ in padding]
    if len(stride) == 1:
        return nir.Conv1d(
            input_shape=source.shape[1], stride=stride[0], padding=before[0], dilation=dilation[0],
            **arguments,
        )  # fmt: skip
    return nir.Conv2d(
        input_shape=source.shape[1:], stride=np.array(stride), padding=np.array(before),
        dilation=np.array(dilation), **arguments,
    )  # fmt: skip


def _population_notes(item: Population) -> list[str]:
    if not isinstance(item, PolarityMultiSpike):
        return []
    notes = [
        f"'{item.name}' is a polarity multi-spike population (levels {item.levels}, rule "
        f"'{item.rule}', initial state, overflow '{item.overflow}'); NIR's IF sends one positive "
        "spike a step and resets to 0"
    ]
    if item.gains != (1, 1):
        notes.append(f"spikes of '{item.name}' carry gains {item.gains}; NIR's carry 1")
    return notes


def _projection_notes(item: Projection, target: Population) -> list[str]:
    notes = []
    padding = getattr(item, "padding", ())
    if any(a != b for a, b in padding):
        notes.append(f"'{item.name}' pads by {padding}; NIR pads both sides alike")
    if item.delay:
        notes.append(f"'{item.name}' has a delay of {item.delay} steps, in its metadata only")
    if isinstance(item, Dense) and len(target.shape) > 1:
        notes.append(f"'{item.name}' fills the shape {target.shape} of '{target.name}' in C order")
    return notes


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
    subject = f"file '{os.fspath(path)}'"
    with open_untrusted(path) as reader:
        refuse_other_kinds(reader, "nir")
        content = _tree(reader)
    graph = content.get("node")
    if not isinstance(graph, dict) or graph.get("type") != "NIRGraph":
        refuse(subject, "holds no NIR graph ('/node' of type NIRGraph)", "give a NIR file", "node")
    metadata = graph.get("metadata", {})
    given: dict[str, Any] = {
        "name": name,
        "max_steps": max_steps,
        "input_scale": input_scale,
        "input_levels": input_levels,
        "levels": levels,
    }
    given = {option: value for option, value in given.items() if value is not None}
    if isinstance(metadata, dict) and _PREFIX + "version" in metadata:
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
    if version != METADATA_VERSION:
        refuse(
            subject,
            f"has metadata version {version}, this release reads {METADATA_VERSION}",
            "use the release that wrote it, or a newer one",
            version,
            METADATA_VERSION,
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
        if node.get("type") in ("Output", "Flatten") and "metadata" not in node:
            continue  # for other readers
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
            if field == "weight" and kind not in ("sum_pool", "identity"):
                array = _unshifted(node.get("weight"), _field("int", fields.get("shift")))
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
    digest = digest_of(
        network.name,
        network.max_steps,
        [fields_of(p) for p in network.populations],
        [fields_of(q) for q in network.projections],
    )
    if own.get("digest") != digest:
        bad("the graph", "the digest does not match")
    return network


def _unprefixed(metadata: object) -> dict[str, Any]:
    if not isinstance(metadata, dict):
        return {}
    return {k[len(_PREFIX) :]: v for k, v in metadata.items() if k.startswith(_PREFIX)}


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


def _unshifted(weight: object, shift: int | None) -> object:
    if not isinstance(weight, np.ndarray) or shift is None or weight.dtype.kind != "i":
        return None
    if shift == 0:
        return weight
    if not 0 < shift <= 6 or weight.dtype != np.int16:
        return None
    unshifted = weight >> shift
    exact = np.array_equal(unshifted << shift, weight) and np.abs(unshifted).max() <= 128
    return unshifted.astype(np.int8) if exact else None

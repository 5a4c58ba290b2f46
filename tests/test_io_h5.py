"""Network files: round trips, reproducible bytes, atomic writes, and everything that is refused."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_networks import random_network, random_units, with_delays
from scarce import no_file_above

import pmsm_hw
from pmsm_hw import io, reference
from pmsm_hw.errors import FormatError
from pmsm_hw.io import h5
from pmsm_hw.mapping import Block, Mapping, load_chip
from pmsm_hw.network import (
    POPULATION_KINDS,
    PROJECTION_KINDS,
    Conv2d,
    Dense,
    Input,
    Network,
    PolarityMultiSpike,
    Readout,
    SumPool,
    fields,
)

DATA = Path(__file__).parent / "data"


def small(name="small", **changes):
    """A network with one of most things; seeded, the same for ever."""
    weight = (np.arange(4 * 2 * 9) * 7 % 51 - 25).reshape(4, 2, 3, 3)
    fields = {
        "name": name,
        "max_steps": 3,
        "populations": (
            Input(name="in", shape=(2, 6, 6), scale=1 / 16, levels=(0, 16), spike_mode="graded"),
            PolarityMultiSpike(
                name="hidden \u00e9",
                shape=(4, 6, 6),
                theta=np.array([40, 50, 60, 70]),
                bias=np.array(-3),
                levels=(2, 4),
                gains=(4, 1),
            ),
            PolarityMultiSpike(
                name="pool", shape=(4, 3, 3), theta=np.arange(1, 37).reshape(4, 3, 3),
                levels=(1, 1), rule="bounded", overflow="saturate", spike_mode="unit",
            ),
            Readout(name="out", shape=(3,), scale=np.array([0.5, 0.25, 0.1]), bias=np.arange(3)),
        ),
        "projections": (
            Conv2d(
                source="in", target="hidden \u00e9", weight=weight, padding=((1, 1), (0, 2)),
                weight_exponent=1,
            ),
            SumPool(source="hidden \u00e9", target="pool", kernel=(2, 2), stride=(2, 2)),
            Dense(
                source="pool", target="out", weight=(np.arange(108) % 17 - 8).reshape(3, 36),
                name="last",
            ),
        ),
        **changes,
    }  # fmt: skip
    return Network(**fields)


def place(network, chip="toy"):
    """One core per population."""
    chip = load_chip(chip)
    neurons = [p for p in network if not isinstance(p, Input)]
    return Mapping(
        network_fingerprint=network.fingerprint,
        network_name=network.name,
        chip=chip,
        blocks=tuple(
            Block(
                population=p.name,
                **dict(
                    zip(
                        ("channels", "rows", "columns"),
                        ((0, n) for n in pmsm_hw.operators.chw(p.shape)),
                        strict=True,
                    )
                ),
                core=i,
            )
            for i, p in enumerate(neurons)
        ),
        spike_modes={p.name: "graded" for p in network},
        usage=np.arange(4 * len(neurons)).reshape(-1, 4),
        link_load=np.linspace(0, 1, chip.rows * chip.columns * 4).reshape(
            chip.rows, chip.columns, 4
        ),
        metrics={"hops": 1.5},
    )


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "net.h5"
    io.save(path, small(), mapping=place(small()), report={"dead_channels": 0})
    return path


def refusal(path, load=io.load):
    with pytest.raises(FormatError) as caught:
        load(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"file '{path}'")
    assert "; " in message
    return message


# -- round trips ------------------------------------------------------------------------------


@given(seed=st.integers(0, 10**6))
def test_round_trip_gives_the_same_network_and_spikes(seed, tmp_path_factory):
    network = random_network(seed)
    if seed % 2:
        network = with_delays(network, seed)
    path = tmp_path_factory.mktemp("io") / "n.h5"
    io.save(path, network)
    again = io.load(path)
    assert again == network
    assert again.fingerprint == network.fingerprint
    units = random_units(network, seed, n_steps=2)
    a, b = reference.run(network, units, 2), reference.run(again, units, 2)
    for name, spikes in a.spikes.items():
        np.testing.assert_array_equal(spikes, b.spikes[name])
    for name, logits in a.logits.items():
        np.testing.assert_array_equal(logits, b.logits[name])


def test_delays_are_stored_only_where_there_are_any(tmp_path):
    one, none, path = delayed([[0, 62]]), delayed([[0, 0]]), tmp_path / "n.h5"
    assert none == delayed(None)
    assert none.fingerprint == delayed(None).fingerprint != one.fingerprint
    io.save(path, none)
    with h5py.File(path) as file:
        assert list(file["projections/0000"]) == ["weight"]
    io.save(path, one)
    with h5py.File(path) as file:
        assert file["projections/0000/delays"][()].tolist() == [[0, 62]]
    assert io.load(path) == one


def delayed(delays):
    return Network(
        populations=(Input(name="x", shape=(2,)), Readout(name="y", shape=(1,))),
        projections=(Dense(source="x", target="y", weight=[[1, 2]], delays=delays),),
    )


def test_mapping_and_report_round_trip(saved):
    network = io.load(saved)
    assert network == small()
    assert io.load_mapping(saved) == place(small())
    assert io.load_report(saved) == {"dead_channels": 0}


def test_a_file_need_not_have_a_mapping_or_a_report(tmp_path):
    path = tmp_path / "n.h5"
    io.save(path, small())
    assert io.load_report(path) is None
    assert "holds no mapping" in refusal(path, io.load_mapping)


def test_every_field_of_the_contract_is_in_the_file():
    for kinds in (POPULATION_KINDS, PROJECTION_KINDS):
        for kind, of_kind in kinds.items():
            stored = {*fields.attributes_of(kind), *fields.arrays_of(kind)} - {"kind"}
            assert stored == {f.name for f in dataclasses.fields(of_kind)}


def test_1d_and_2d_shapes_and_odd_names_reload(tmp_path):
    for shape in [(5,), (5, 2), (5, 2, 3), (1,), (1, 1, 1)]:
        name = "sp ace . \u00fc->x"
        network = Network(
            name="",
            populations=(
                Input(name=".hidden", shape=shape),
                PolarityMultiSpike(name=name, shape=shape, theta=np.array(3), levels=(0, 1)),
            ),
            projections=(pmsm_hw.Identity(source=".hidden", target=name, name=".."),),
        )
        io.save(tmp_path / "n.h5", network)
        assert io.load(tmp_path / "n.h5") == network


def test_large_arrays_are_cut_into_chunks(tmp_path):
    rng = np.random.default_rng(0)
    weight = rng.integers(-128, 128, (300, 5000)).astype(np.int8)
    network = Network(
        populations=(
            Input(name="a", shape=(5000,), levels=(0, 1)),
            Readout(name="b", shape=(300,), bias=rng.integers(-9, 9, 300)),
        ),
        projections=(Dense(source="a", target="b", weight=weight),),
    )
    io.save(tmp_path / "n.h5", network)
    assert io.load(tmp_path / "n.h5") == network
    with h5py.File(tmp_path / "n.h5") as file:
        assert np.prod(file["projections/0000/weight"].chunks) <= 1 << 20


def test_size_is_that_of_the_gzipped_weights(tmp_path):
    rng = np.random.default_rng(0)
    # like trained weights: bell-shaped, so that gzip has something to do
    weights = [np.clip(rng.normal(0, 20, s), -128, 127).astype(np.int8) for s in [(2000, 900)] * 2]
    populations = [Input(name="0", shape=(900,), levels=(0, 1))]
    projections = []
    for i, weight in enumerate(weights):
        populations.append(
            PolarityMultiSpike(
                name=f"{i}n", shape=(2000,), theta=rng.integers(1, 999, 2000), levels=(0, 1)
            )
        )
        projections.append(Dense(source="0", target=f"{i}n", weight=weight))
    io.save(
        tmp_path / "n.h5",
        Network(populations=tuple(populations), projections=tuple(projections)),
    )
    gzipped = sum(len(zlib.compress(w.tobytes(), 6)) for w in weights)
    assert (tmp_path / "n.h5").stat().st_size <= 1.1 * gzipped + 100_000


# -- bytes ------------------------------------------------------------------------------------


def test_same_network_same_bytes(tmp_path):
    paths = [tmp_path / "a.h5", tmp_path / "b.h5"]
    for path in paths:
        io.save(path, small(), mapping=place(small()), report={"b": 1, "a": 2})
        time.sleep(1.1)  # HDF5 would store times in seconds
    assert paths[0].read_bytes() == paths[1].read_bytes()


@pytest.mark.parametrize("version", [1])
def test_golden_file_of_each_version_loads(version):
    path = DATA / f"network_v{version}.h5"
    assert io.load(path) == small("golden")
    mapping, now = io.load_mapping(path), place(small("golden"))
    assert mapping.blocks == now.blocks  # the chip is the one of the day the file was written
    assert mapping.chip.name == "toy"
    np.testing.assert_array_equal(mapping.usage, now.usage)
    assert mapping.metrics == now.metrics
    assert io.load_report(path) == {"made_by": "tests/test_io_h5.py"}


def test_digest_is_what_the_documentation_defines(saved):
    # from the definition in docs/format.md, with h5py alone
    import hashlib

    def text(value):
        value = value.decode() if isinstance(value, bytes) else np.asarray(value).tolist()
        return value

    def line(values):
        return json.dumps(values, sort_keys=True, separators=(",", ":")).encode()

    order = {
        "polarity_multi_spike": ["theta", "bias", "v_init"],
        "readout": ["scale", "bias"],
        "input": [],
    }
    defaults = {
        "gains": [1, 1], "rule": "carry", "spike_mode": "auto", "overflow": "error", "bias": 0,
        "weight_exponent": 0, "delay": 0, "groups": 1,
    }  # fmt: skip

    def said(kind, name, value):
        if name == "scale":
            return np.shape(value) != () or value != 1
        if kind == "input" and name == "levels":
            return value != [0, 255]
        if kind in ("sum_pool", "identity") and name == "weight":
            return np.shape(value) != () or value != 1
        if name == "padding" or (name in ("stride", "dilation") and kind != "sum_pool"):
            return bool((np.array(value) != (name != "padding")).any())
        return name not in defaults or bool(np.any(np.array(value) != np.array(defaults[name])))

    with h5py.File(saved) as file:
        digest = hashlib.sha256(line({"max_steps": text(file.attrs["max_steps"])}))
        for part in ("populations", "projections"):
            for key in sorted(file[part]):
                group = file[part][key]
                kind = text(group.attrs["kind"])
                values = {k: text(v) for k, v in group.attrs.items()}
                digest.update(line({k: v for k, v in values.items() if said(kind, k, v)}))
                for name in order.get(kind, ["weight"]):
                    array = group[name][()]
                    if (np.ndim(array) and name in defaults) or said(kind, name, array):
                        digest.update(line({"array": name, "shape": list(np.shape(array))}))
                        digest.update(array.tobytes())
        assert text(file.attrs["digest"]) == "2:" + digest.hexdigest()
        assert text(file.attrs["digest"]) == io.load(saved).fingerprint


def test_files_of_the_digest_before_are_verified_by_it(tmp_path):
    path = tmp_path / "old.h5"
    path.write_bytes((DATA / "network_v1.h5").read_bytes())
    with h5py.File(path) as file:
        assert ":" not in file.attrs["digest"].decode()
        assert b":" not in file["mapping/network_fingerprint"][()].tobytes()
    assert io.load_mapping(path).network_name == "golden"
    with h5py.File(path, "r+") as file:
        file["projections/0002/weight"][0, 0] += 1
    assert "digest does not match" in refusal(path)
    path.write_bytes((DATA / "network_v1.h5").read_bytes())
    with h5py.File(path, "r+") as file:  # which earlier releases knew nothing of
        weight = file["projections/0002/weight"]
        file["projections/0002/delays"] = np.ones(weight.shape, np.uint8)
    assert "digest does not match" in refusal(path)
    with h5py.File(path, "r+") as file:
        del file.attrs["digest"]
    with pytest.raises(FormatError, match="was made for another network"):
        io.load_mapping(path)


def test_a_file_without_digest_loads(saved):
    with h5py.File(saved, "r+") as file:
        del file.attrs["digest"]
    assert io.load(saved) == small()


def test_bounds_are_stored_as_information(saved):
    network = small()
    with h5py.File(saved, "r+") as file:
        for row, population in zip(file["bounds"][()], network.populations, strict=True):
            bound = network.bounds[population.name]
            assert row.tolist() == list(dataclasses.asdict(bound).values())
        file["bounds"][...] = 7
    assert io.load(saved).bounds == network.bounds


# -- writing ----------------------------------------------------------------------------------


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "n.h5"
    io.save(path, small("old"))
    before = path.read_bytes()
    with no_file_above(1000), pytest.raises(FormatError, match="File too large"):
        io.save(path, small("new"))
    monkeypatch.setattr(h5, "_write_array", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        io.save(path, small("new"))
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["n.h5"]


def test_unwritable_places_are_refused(tmp_path):
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "absent" / "n.h5", tmp_path / "folder"):
        with pytest.raises(FormatError, match="cannot be written"):
            io.save(path, small())
    assert os.listdir(tmp_path) == ["folder"]
    assert os.listdir(tmp_path / "folder") == []


def test_permissions_are_those_of_any_new_file(tmp_path):
    (tmp_path / "plain").touch()
    io.save(tmp_path / "n.h5", small())
    assert (tmp_path / "n.h5").stat().st_mode == (tmp_path / "plain").stat().st_mode


class _Dict:
    def __init__(self, content):
        self.content = content

    def to_dict(self):
        return self.content


@pytest.mark.parametrize(
    ("network", "arguments", "message"),
    [
        (small("x" * 2000), {}, r"name 'xxx.*is not text of at most 1,000 bytes"),
        (small("a\0b"), {}, r"is not text"),
        (small("\ud800"), {}, r"is not text"),
        (small(), {"report": {"a": float("nan")}}, r"report: is not representable as JSON"),
        (small(), {"report": {"a": object()}}, r"report: is not representable as JSON"),
        (
            small(),
            {"mapping": _Dict({"network_fingerprint": "abc"})},
            r"the mapping belongs to network abc, this is",
        ),
        (
            Network(populations=(Input(name="a", shape=(1, 2**14, 2**14)),), projections=()),
            {},
            r"population 'a': number of neurons 268,435,456 is outside 0..134,217,728",
        ),
    ],
)
def test_what_a_file_cannot_hold_is_refused(tmp_path, network, arguments, message):
    with pytest.raises(FormatError, match=message):
        io.save(tmp_path / "n.h5", network, **arguments)
    assert os.listdir(tmp_path) == []


# -- reading what is not sound ----------------------------------------------------------------


def test_absent_files_and_folders(tmp_path):
    assert "is not an existing file" in refusal(tmp_path / "no.h5")
    assert "is not an existing file" in refusal(tmp_path)


def test_truncated_file(saved):
    data = saved.read_bytes()
    for n in (0, 1, 8, 100, len(data) // 2, len(data) - 1):
        saved.write_bytes(data[:n])
        assert "is damaged or not HDF5" in refusal(saved)


def test_hdf5_of_another_kind(tmp_path):
    path = tmp_path / "other.h5"
    with h5py.File(path, "w") as file:
        file["model/0/type"] = np.bytes_("dense")
    assert "HDF5 of another kind" in refusal(path)
    with h5py.File(path, "w") as file:
        file.attrs.create("format", b"netx", dtype=h5py.string_dtype("utf-8", 4))
    assert "HDF5 of another kind" in refusal(path)


def test_unknown_format_version(saved):
    with h5py.File(saved, "r+") as file:
        file.attrs.modify("format_version", 2)
    assert "has format_version 2, this release reads 1" in refusal(saved)


def test_a_changed_number_is_noticed(saved):
    with h5py.File(saved, "r+") as file:
        file["projections/0002/weight"][0, 0] += 1
    assert "digest does not match" in refusal(saved)


def test_one_flipped_bit_in_stored_weights_is_noticed(saved):
    with h5py.File(saved) as file:
        at = file["projections/0002/weight"].id.get_chunk_info(0).byte_offset
    data = bytearray(saved.read_bytes())
    data[at + 5] ^= 4
    saved.write_bytes(data)
    assert "damaged" in refusal(saved)


def replace(group, name, **arguments):
    del group[name]
    group.create_dataset(name, **arguments)


def soft(file):
    del file["populations/0001/theta"]
    file["populations/0001/theta"] = h5py.SoftLink("/populations/0002/theta")


def external_link(file):
    del file["projections/0000/weight"]
    file["projections/0000/weight"] = h5py.ExternalLink("/etc/hostname", "/x")


def virtual(file):
    layout = h5py.VirtualLayout((3, 36), "i1")
    layout[:] = h5py.VirtualSource("other.h5", "w", (3, 36))
    del file["projections/0002/weight"]
    file["projections/0002"].create_virtual_dataset("weight", layout)


def text_attribute(group, name, value):
    group.attrs.create(name, value, dtype=h5py.string_dtype("utf-8", len(value)))


DAMAGE = {
    "soft link": (soft, "'/populations/0001/theta' is a soft or external link"),
    "external link": (external_link, "'/projections/0000/weight' is a soft or external link"),
    "external storage": (
        lambda f: replace(
            f["projections/0002"], "weight", shape=(3, 36), dtype="i1",
            external=[("/etc/hostname", 0, 108)],
        ),
        "is stored in another file",
    ),
    "virtual data": (virtual, "has a virtual layout"),
    "foreign filter": (
        lambda f: replace(
            f["projections/0002"], "weight", data=np.zeros((3, 36), "i1"), compression="lzf"
        ),
        "uses filter 32000, only gzip is read",
    ),
    "missing dataset": (lambda f: f.__delitem__("projections/0002/weight"), "weight' is missing"),
    "missing group": (lambda f: f.__delitem__("populations"), "'/populations' is missing"),
    "missing item": (lambda f: f.__delitem__("populations/0001"), "'/populations/0001' is missing"),
    "unknown member": (lambda f: f.create_group("extra"), "'/extra' is unknown in this format"),
    "group for dataset": (
        lambda f: (f.__delitem__("bounds"), f.create_group("bounds")),
        "'/bounds' is a Group, a Dataset is expected",
    ),
    "wrong dtype": (
        lambda f: replace(f["projections/0002"], "weight", data=np.zeros((3, 36), "<i2")),
        "has type int16, int8 is expected",
    ),
    "float weights": (
        lambda f: replace(f["projections/0002"], "weight", data=np.zeros((3, 36))),
        "has type float64, int8 is expected",
    ),
    "big endian": (
        lambda f: replace(f["populations/0003"], "bias", data=np.zeros(3, ">i4")),
        "has type >i4, int32 is expected",
    ),
    "too many axes": (
        lambda f: replace(f["projections/0002"], "weight", data=np.zeros((1, 1, 1, 3, 36), "i1")),
        "at most 4 axes",
    ),
    "huge claim, nothing stored": (
        lambda f: replace(
            f["projections/0002"], "weight", shape=(2**40, 2**20), dtype="i1", chunks=(64, 64)
        ),
        "claims 1,152,921,504,606,846,976 bytes, its 0 stored bytes",
    ),
    "huge chunk": (
        lambda f: replace(
            f["projections/0002"], "weight", data=np.zeros((5000, 5000), "i1"),
            chunks=(5000, 5000), compression="gzip",
        ),
        "has chunks of 25,000,000 bytes, at most 16,777,216",
    ),
    "missing attribute": (
        lambda f: f["populations/0001"].attrs.__delitem__("gains"),
        "attribute '/populations/0001@gains' is missing",
    ),
    "unknown attribute": (
        lambda f: f["populations/0001"].attrs.__setitem__("new", 1), "has 9 attributes",
    ),
    "attribute of another type": (
        lambda f: f["populations/0001"].attrs.__setitem__("gains", 1.5),
        "'/populations/0001@gains' has type float64 and shape (), ints is expected",
    ),
    "variable-length text": (
        lambda f: f["populations/0001"].attrs.__setitem__("rule", "carry"),
        "'/populations/0001@rule' has type object",
    ),
    "unknown kind": (
        lambda f: text_attribute(f["populations/0001"], "kind", b"lif"), "is of kind 'lif'",
    ),
    "text that is not UTF-8": (
        lambda f: text_attribute(f["populations/0001"], "rule", b"\xff\xff"), "utf-8",
    ),
    "huge shape": (
        lambda f: f["populations/0001"].attrs.modify("shape", [4, 2**62, 6]),
        "size 4,611,686,018,427,387,904 is outside",
    ),
    "many channels": (
        lambda f: f["populations/0001"].attrs.modify("shape", [2**21, 1, 1]),
        "number of channels 2,097,152 is outside 0..1,048,576",
    ),
    "huge kernel": (
        lambda f: f["projections/0001"].attrs.modify("kernel", [2**30, 2]), "kernel 1,073,741,824",
    ),
    "large window": (
        lambda f: f["projections/0001"].attrs.modify("kernel", [4096, 4096]),
        "channels x window 67,108,864 is outside",
    ),
    "huge padding": (
        lambda f: f["projections/0000"].attrs.modify("padding", [[2**40, 0], [0, 0]]),
        "padding 1,099,511,627,776",
    ),
    "unknown rule": (
        lambda f: text_attribute(f["populations/0001"], "rule", b"leaky"),
        "holds no valid network: population 'hidden \u00e9': rule 'leaky'",
    ),
    "theta 0": (
        lambda f: f["populations/0001/theta"].__setitem__(0, 0), "theta lies in [0, 70]",
    ),
    "unprovable state": (
        lambda f: f.attrs.modify("max_steps", 4096) or f["populations/0003"].attrs.modify(
            "overflow", np.bytes_("error")
        ) or f["populations/0003/bias"].__setitem__(0, 2**23 - 1),
        "state can reach",
    ),
    "cycle without delay": (
        lambda f: (
            text_attribute(f["projections/0001"], "source", b"pool"),
            text_attribute(f["projections/0001"], "target", b"pool"),
            f["projections/0001"].attrs.modify("kernel", [1, 1]),
            f["projections/0001"].attrs.modify("stride", [1, 1]),
        ),
        "form a cycle without delay",
    ),
    "wrong bounds": (
        lambda f: replace(f, "bounds", data=np.zeros((3, 6), "<i8")), "'/bounds' has shape (3, 6)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_hostile_and_damaged_files_are_refused(saved, damage):
    change, message = DAMAGE[damage]
    with h5py.File(saved, "r+") as file:
        del file.attrs["digest"]
        change(file)
    assert message in refusal(saved)


def test_many_names_for_one_array_cannot_multiply_memory(tmp_path):
    # a gigabyte claimed by every one of 300 populations, from a file of some kilobytes
    path = tmp_path / "bomb.h5"
    network = Network(
        populations=(
            Input(name="a", shape=(1,)),
            *(
                PolarityMultiSpike(name=str(i), shape=(1,), theta=np.array(1), levels=(0, 1))
                for i in range(40)
            ),
        ),
        projections=(),
    )
    io.save(path, network)
    with h5py.File(path, "r+") as file:
        del file.attrs["digest"]
        file.create_dataset(
            "populations/0001/x", data=np.zeros((25, 1000, 1000), "<i4"), chunks=(1, 1000, 1000),
            compression="gzip",
        )  # fmt: skip
        for i in range(1, 41):
            del file[f"populations/{i:04d}/theta"]
            file[f"populations/{i:04d}/theta"] = file["populations/0001/x"]
        del file["populations/0001/x"]
    assert path.stat().st_size < 400_000
    assert "left of what the whole file can hold" in refusal(path)


def test_proof_over_too_many_steps_is_refused(tmp_path):
    path = tmp_path / "n.h5"
    shape = (1, 512, 512)
    network = Network(
        populations=(
            Input(name="a", shape=shape),
            PolarityMultiSpike(name="b", shape=shape, theta=np.full(shape, 5), levels=(0, 1)),
        ),
        projections=(),
    )
    io.save(path, network)
    with h5py.File(path, "r+") as file:
        del file.attrs["digest"]
        file.attrs.modify("max_steps", 4096)
    assert "number of parameters x max_steps" in refusal(path)


# -- mappings ---------------------------------------------------------------------------------


def change_block(row, column, value):
    return lambda f: f["mapping/blocks"].__setitem__((row, column), value)


def change_text(file, change, *names):
    """Change the JSON texts of a mapping."""
    for name in names:
        text = change(json.loads(file["mapping"][name][()].tobytes()))
        replace(file["mapping"], name, data=np.frombuffer(json.dumps(text).encode(), np.uint8))


MAPPING_DAMAGE = {
    "another network": (
        lambda f: replace(
            f["mapping"], "network_fingerprint", data=np.frombuffer(b"0" * 64, np.uint8)
        ),
        "was made for another network",
    ),
    "core that the chip has not": (change_block(0, 7, 10**9), "on core 1000000000"),
    "channels that are not there": (change_block(0, 2, 5), "do not all exist"),
    "population that is not there": (change_block(0, 0, 9), "is damaged"),
    "missing neurons": (change_block(0, 2, 3), "36 of 144 neurons without a core"),
    "neurons twice": (
        lambda f: replace(
            f["mapping"], "blocks", data=np.concatenate([f["mapping/blocks"][()]] * 2)
        ),
        "144 of 144 with several",
    ),
    "damaged chip": (
        lambda f: replace(f["mapping"], "chip", data=np.frombuffer(b'{"name": 3}', np.uint8)),
        "holds no valid mapping",
    ),
    "not JSON": (
        lambda f: replace(f["mapping"], "chip", data=np.frombuffer(b"{", np.uint8)),
        "holds no valid mapping",
    ),
    "nested JSON": (
        lambda f: replace(f["mapping"], "metrics", data=np.frombuffer(b"[" * 99999, np.uint8)),
        "holds no valid mapping",
    ),
    "usage of too few cores": (
        lambda f: replace(f["mapping"], "usage", data=f["mapping/usage"][:2]),
        "usage is 2 x 4 of int64, 3 x 4 integers are needed",
    ),
    "usage of too many resources": (
        lambda f: replace(f["mapping"], "usage", data=np.zeros((3, 5), "<i8")),
        "usage is 3 x 5",
    ),
    "negative usage": (
        lambda f: f["mapping/usage"].__setitem__((1, 2), -1), "usage holds -1",
    ),
    "usage beyond a core": (
        lambda f: f["mapping/usage"].__setitem__((1, 3), 2**40),
        "needs 1,099,511,627,776 synapse memory bits, chip",
    ),
    "usage of another type": (
        lambda f: replace(f["mapping"], "usage", data=np.zeros((3, 4))),
        "float64, int64 is expected",
    ),
    "link load of another mesh": (
        lambda f: replace(f["mapping"], "link_load", data=f["mapping/link_load"][:1]),
        "link_load is 1 x",
    ),
    "negative link load": (
        lambda f: f["mapping/link_load"].__setitem__((0, 0, 0), -0.5), "link_load holds -0.5",
    ),
    "endless link load": (
        lambda f: f["mapping/link_load"].__setitem__((0, 0, 0), np.inf), "link_load holds",
    ),
    "no spike mode": (
        lambda f: change_text(f, lambda names: names[:-1], "populations", "spike_modes"),
        "is damaged",
    ),
    "spike mode of none": (
        lambda f: change_text(f, lambda x: [*x, x[0] if x[0] == "graded" else "x"],
                              "populations", "spike_modes"),
        "has a spike mode for an unknown population 'x'",
    ),
    "spike mode unknown": (
        lambda f: change_text(f, lambda modes: ["loud", *modes[1:]], "spike_modes"),
        "spike mode 'loud' is not one of graded, unit",
    ),
    "objective unknown": (
        lambda f: replace(f["mapping"], "objective", data=np.frombuffer(b"fame", np.uint8)),
        "objective 'fame' is not one of",
    ),
    "more cores than blocks": (
        lambda f: change_text(f, lambda metrics: {**metrics, "n_cores": 9}, "metrics"),
        "states n_cores 9, it has 3",
    ),
    "metric that is none": (
        lambda f: change_text(f, lambda metrics: {**metrics, "hops": "many"}, "metrics"),
        "is damaged",
    ),
    "missing part": (lambda f: f.__delitem__("mapping/usage"), "'/mapping/usage' is missing"),
    "newer version": (
        lambda f: f["mapping"].attrs.modify("format_version", 2), "format_version 2",
    ),
}  # fmt: skip


@pytest.mark.parametrize("damage", MAPPING_DAMAGE)
def test_damaged_mappings_are_refused(saved, damage):
    change, message = MAPPING_DAMAGE[damage]
    with h5py.File(saved, "r+") as file:
        change(file)
    assert message in refusal(saved, io.load_mapping)
    assert io.load(saved) == small()


def test_damaged_reports_are_refused(saved):
    for text, message in [
        (b"{", "'/report' is not JSON"),
        (b"[1]", "'/report' holds a list, an object is expected"),
        (b'{"a": NaN}', "NaN is not JSON"),
        (b"\xff", "utf-8"),
    ]:
        with h5py.File(saved, "r+") as file:
            replace(file, "report", data=np.frombuffer(text, np.uint8))
        assert message in refusal(saved, io.load_report)


# -- fuzzing ----------------------------------------------------------------------------------


def test_500_damaged_files_give_a_network_or_a_refusal():
    script = Path(__file__).with_name("fuzz_files.py")
    done = subprocess.run(
        [sys.executable, str(script), "--cases", "500"],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout)
    counts = {k: n for k, n in outcome.items() if k.startswith(("loaded", "refused"))}
    assert sum(counts.values()) == 500
    assert sum(n for k, n in counts.items() if k.startswith("loaded")) > 10
    assert sum(n for k, n in counts.items() if "mapped" in k) > 2
    assert outcome["peak_mb"] < 512
    assert outcome["files_left"] == []


@pytest.mark.parametrize(
    "call",
    [
        lambda path: io.save(path, 5),
        lambda path: io.save(5, small()),
        lambda path: io.save(None, small()),
        lambda path: io.save(path, small(), mapping=5),
        lambda path: io.save(path, small(), report=[1]),
        lambda path: io.save_nir(path, "net"),
        lambda path: io.save_nir(5, small()),
        lambda path: io.load(5),
        lambda path: io.load(None),
        lambda path: io.load_nir(b"x.nir"),
        lambda path: io.load_mapping(3.5),
        lambda path: io.load_report([path]),
        lambda path: io.has_mapping(0),
    ],
)
def test_what_is_no_path_and_no_network_is_refused(tmp_path, call):
    with pytest.raises(FormatError, match=r"is not a path|was given to save|(mapping|report) is a"):
        call(tmp_path / "x.h5")
    assert os.listdir(tmp_path) == []


def test_front_door_is_light():
    code = (
        "import sys, pmsm_hw.io; "
        "print([m for m in ('h5py', 'torch', 'pydantic', 'nir') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

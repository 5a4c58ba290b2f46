"""Reports: the same bytes everywhere, provenance, comparison; and what `emulate` refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
from emulator_cases import edit_chip, make_mapping, random_case, whole
from random_networks import random_units

from pmsm_hw import Dense, Identity, Input, Network, PmsmHwError, PolarityMultiSpike, Readout
from pmsm_hw.emulator import Report, Spread, compare, emulate
from pmsm_hw.errors import ChipFileError, EmulationError, InputError, MappingError, NetworkError
from pmsm_hw.mapping import Block, load_chip
from pmsm_hw.mapping.chip import parse_chip


def small(**options: object) -> tuple[Network, object, np.ndarray]:
    rng = np.random.default_rng(1)
    network = Network(
        name="small",
        populations=(
            Input(name="in", shape=(6,), levels=(0, 7), scale=0.5),
            PolarityMultiSpike(name="a", shape=(8,), theta=np.array(20), levels=(2, 4)),
            Readout(name="out", shape=(3,), scale=np.array(0.1)),
        ),
        projections=(
            Dense(source="in", target="a", weight=rng.integers(-9, 10, (8, 6))),
            Dense(source="a", target="out", weight=rng.integers(-9, 10, (3, 8))),
        ),
        max_steps=4,
    )
    chip = load_chip("toy")
    mapping = make_mapping(network, chip, [whole(network, "a", 0), whole(network, "out", 4)])
    return network, mapping, rng.integers(0, 8, (20, 6))


@pytest.fixture
def report() -> Report:
    network, mapping, x = small()
    labels = np.arange(20) % 3
    return emulate(network, mapping, x, 2, labels=labels, mode="cycle")  # type: ignore[arg-type]


def test_report_in_words_and_data(report: Report) -> None:
    data = json.loads(report.to_json())
    assert data == report.to_dict()
    assert data["accuracy"] == report.accuracy
    assert data["accuracy"] == np.mean(report.predictions() == np.arange(20) % 3)
    assert data["energy_pj"]["total"] == pytest.approx(sum(report.energy.parts.values()))
    text = str(report)
    assert "accuracy" in text
    assert "small on toy (toy), cycle mode" in text
    lines = report.to_csv().splitlines()
    assert len(lines) == 1 + 3
    assert lines[0].startswith("population,neuron_updates_idle,")


def test_json_follows_the_schema(report: Report) -> None:
    """A small check of docs/report.schema.json: keys and types, without another dependency."""
    from pathlib import Path

    schema = json.loads(
        (Path(__file__).parents[1] / "docs" / "report.schema.json").read_text(encoding="utf-8")
    )
    check_schema(report.to_dict(), schema, schema)
    network, mapping, x = small()
    check_schema(emulate(network, mapping, x).to_dict(), schema, schema)  # type: ignore[arg-type]
    network, mapping = random_case(7)
    x = random_units(network, 7)  # type: ignore[assignment]
    check_schema(emulate(network, mapping, x).to_dict(), schema, schema)  # type: ignore[arg-type]


TYPES = {
    "object": dict, "array": list, "string": str, "integer": int, "number": (int, float),
    "boolean": bool, "null": type(None),
}  # fmt: skip


def check_schema(value: object, schema: dict, root: dict) -> None:  # type: ignore[type-arg]
    if "$ref" in schema:
        return check_schema(value, root["$defs"][schema["$ref"].rsplit("/", 1)[1]], root)
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    assert any(
        isinstance(value, TYPES[k]) and (k == "boolean" or not isinstance(value, bool))  # type: ignore[arg-type]
        for k in kinds
    ), (value, kinds)
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        other = schema.get("additionalProperties", False)
        missing = set(schema.get("required", ())) - set(value)
        assert not missing, missing
        for key, item in value.items():
            assert key in properties or other, f"unexpected key {key}"
            check_schema(item, properties.get(key, other), root)
    if isinstance(value, list):
        for item in value:
            check_schema(item, schema["items"], root)
    return None


def test_parts_by_population_and_core_add_up(report: Report) -> None:
    energy = report.energy
    assert sum(energy.by_population.values()) == pytest.approx(energy.dynamic, rel=1e-12)
    hops = sum(
        energy.by_event[f"hop_{d}"][2] or 0
        for d in ("east", "west", "north", "south")
        if f"hop_{d}" in energy.by_event
    )
    assert hops > 0
    assert sum(energy.by_core.values()) + hops == pytest.approx(energy.dynamic, rel=1e-12)
    assert np.mean(energy.per_sample) == pytest.approx(energy.dynamic, rel=1e-12)
    assert energy.to_dict()["dynamic"] == energy.dynamic


def test_arrays_are_read_only(report: Report) -> None:
    for array in (
        *report.spikes.values(), *report.readouts.values(), report.counts.hops,
        report.timing.step_ps,
    ):  # fmt: skip
        assert not array.flags.writeable
    with pytest.raises(FrozenInstanceError):
        report.mode = "counts"  # type: ignore[misc]


def test_missing_constants_make_a_partial_report() -> None:
    network, mapping, x = small()
    toy = load_chip("toy")
    data = toy.model_dump(exclude_none=True)
    for section, keys in (
        ("energy", ("packet_in", "hop_north")), ("time", ("packet_out", "barrier")),
    ):  # fmt: skip
        for key in keys:
            del data["profiles"]["toy"][section][key]
    del data["profiles"]["toy"]["static_power_mw"]
    chip = parse_chip(data)
    partial = emulate(network, replace(mapping, chip=chip), x, mode="cycle")  # type: ignore[type-var]
    full = emulate(network, mapping, x, mode="cycle")  # type: ignore[arg-type]
    # nothing went north, so that hop_north is not missed
    assert partial.missing == (
        "energy.packet_in", "static_power_mw", "time.packet_out", "time.barrier",
    )  # fmt: skip
    assert partial.partial
    assert "partial" in str(partial)
    assert partial.to_dict()["missing"] == list(partial.missing)
    assert "static" not in partial.energy.parts
    received = partial.counts.messages_in.sum() / 20
    assert full.energy.dynamic - partial.energy.dynamic == pytest.approx(3 * received)
    assert not full.partial
    assert full.missing == ()


def test_one_run_is_priced_by_every_profile() -> None:
    """Both profiles of Loihi 1 from one run's counts, equal to a run with each."""
    network, _, x = small()
    blocks = [whole(network, "a", 0), whole(network, "out", 5)]  # type: ignore[arg-type]
    mapping = make_mapping(network, load_chip("loihi1"), blocks)  # type: ignore[arg-type]
    report = emulate(network, mapping, x)  # type: ignore[arg-type]
    priced = report.dynamic_pj_by_profile
    assert list(priced) == ["davies2018", "sanafe"]
    for name, (pj, missing) in priced.items():
        other = emulate(network, mapping, x, profile=name)  # type: ignore[arg-type]
        assert pj == pytest.approx(other.energy.dynamic, rel=1e-12)
        assert set(missing) == {m for m in other.energy.missing if m.startswith("energy.")}
    assert "energy.packet_out" in priced["davies2018"][1]
    assert priced["sanafe"][1] == ()


def test_assumed_constants_are_named() -> None:
    network, mapping, x = small()
    loihi = load_chip("loihi1")
    mapping = make_mapping(network, loihi, [whole(network, "a", 0), whole(network, "out", 5)])  # type: ignore[assignment]
    report = emulate(network, mapping, x, profile="sanafe", mode="cycle")  # type: ignore[arg-type]
    assert report.assumed == ("static_power_mw",)
    davies = emulate(network, mapping, x, profile="davies2018", mode="cycle")  # type: ignore[arg-type]
    assert davies.missing  # Davies et al. give no energy of packets
    table = compare({"sanafe": report, "davies": davies})
    assert "sanafe" in table
    assert len(table.splitlines()) == 4


def test_records_only_what_is_asked_for() -> None:
    network, mapping, x = small()
    for mode in ("counts", "cycle"):
        report = emulate(network, mapping, x, mode=mode, record=["a"])  # type: ignore[arg-type]
        assert set(report.spikes) == {"a"}
        assert set(emulate(network, mapping, x, mode=mode, record=[]).spikes) == set()  # type: ignore[arg-type]


def test_spread() -> None:
    spread = Spread.of([4, 1, 3, 2, 5])
    assert (spread.mean, spread.median, spread.minimum, spread.maximum) == (3, 3, 1, 5)
    assert spread.sd == pytest.approx(np.std([1, 2, 3, 4, 5]))
    values = np.random.default_rng(0).normal(size=37)
    for share, found in ((5, Spread.of(values).p5), (95, Spread.of(values).p95)):
        assert found == pytest.approx(np.percentile(values, share))


def test_literature_figures() -> None:
    network, mapping, x = small()
    report = emulate(network, mapping, x, 2)  # type: ignore[arg-type]
    ops = report.operations
    weights = [q.weight for q in network.projections]
    assert ops.ann_macs == 6 * 8 + 8 * 3
    assert ops.ann_pj["fp32"] == pytest.approx(72 * 4.6)
    # graded values and spikes beyond 1: multiply; nothing else is there
    assert ops.effective_macs * 20 == report.counts.total()["synaptic_operations"]
    assert ops.effective_acs == 0
    spikes = np.abs(report.spikes["a"]).sum(axis=(0, 1))
    fan_out = np.count_nonzero(weights[1], axis=0)
    assert ops.spike_acs == pytest.approx((spikes @ fan_out) / 20)
    assert ops.activation_sparsity == pytest.approx(np.mean(report.spikes["a"] == 0))
    assert ops.connection_sparsity == pytest.approx(
        np.mean(np.concatenate([w.ravel() for w in weights]) == 0)
    )


def test_windowed_macs_leave_padding_out() -> None:
    from random_networks import random_network

    from pmsm_hw.emulator.layout.macs import dense_macs
    from pmsm_hw.operators import lowered, synapses

    for seed in range(20):
        network = random_network(seed)
        ones = replace(
            network,
            projections=tuple(
                replace(q, weight=np.ones_like(q.weight), weight_exponent=0)  # type: ignore[call-arg]
                for q in network.projections
            ),
            max_steps=1,
        )
        expected = sum(len(synapses(lowered(ones, q))[0]) for q in ones.projections)
        assert dense_macs(network) == expected


def test_importing_the_front_door_is_light() -> None:
    code = (
        "import sys, pmsm_hw.emulator; "
        "assert not {'numba', 'scipy', 'pydantic', 'torch', 'rich'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# -- the same bytes everywhere -----------------------------------------------------------------

SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
from emulator_cases import random_case
from random_networks import random_units
from pmsm_hw.emulator import emulate
import hashlib
for seed in (1, 2, 3):
    network, mapping = random_case(seed)
    x = random_units(network, seed, n_samples=3, n_steps=2)
    for mode in ("counts", "cycle"):
        text = emulate(network, mapping, x, 2, mode=mode).to_json()
        print(mode, hashlib.sha256(text.encode()).hexdigest())
"""


def digests(python: str) -> str:
    from pathlib import Path

    tests = str(Path(__file__).parent)
    done = subprocess.run(
        [python, "-c", SCRIPT.format(tests=tests)], capture_output=True, text=True, check=True
    )
    return done.stdout


def test_equal_bytes_across_processes() -> None:
    first = digests(sys.executable)
    assert len(first.splitlines()) == 6
    assert first == digests(sys.executable)


def test_equal_bytes_across_pythons() -> None:
    from pathlib import Path

    root = Path(__file__).parents[1]
    others = [
        p
        for p in (root / ".venv" / "bin" / "python", root / ".venv-lava" / "bin" / "python")
        if p.exists()
    ]
    if len(others) < 2:
        pytest.skip("needs .venv and .venv-lava: run make setup")
    assert len({digests(str(p)) for p in others}) == 1


# -- refusals ----------------------------------------------------------------------------------


def refused(error: type[PmsmHwError], *fragments: str, **options: object) -> None:
    network, mapping, x = small()
    arguments = {"network": network, "mapping": mapping, "x": x, "n_steps": 1, **options}
    with pytest.raises(error) as caught:
        emulate(**arguments)  # type: ignore[arg-type]
    message = str(caught.value)
    assert "\n" not in message
    for fragment in fragments:
        assert fragment in message, message


def test_refuses_a_mapping_of_another_network() -> None:
    network, _ = random_case(5)
    refused(MappingError, "another network", network=network)


def test_refuses_unknown_names() -> None:
    refused(EmulationError, "'fast'", "counts, cycle", mode="fast")
    refused(ChipFileError, "'nobody'", "toy", profile="nobody")
    refused(NetworkError, "'nobody'", record=["nobody"])


@pytest.mark.parametrize("n_steps", [0, -3, 1.5, True, "2", 5])
def test_refuses_steps(n_steps: object) -> None:
    refused(InputError, n_steps=n_steps)


def test_refuses_inputs() -> None:
    refused(InputError, "not finite", x=np.full((2, 6), np.nan))
    refused(InputError, "not finite", x=np.full((2, 6), np.inf))
    refused(InputError, "shape", x=np.zeros((2, 5)))
    refused(InputError, "levels are [0, 7]", x=np.full((2, 6), 9))
    refused(InputError, "levels are [0, 7]", x=np.full((2, 6), -1))
    refused(InputError, "dtype", x=np.full((2, 6), "a"))
    refused(InputError, "dtype", x=np.full((2, 6), 1j))
    refused(InputError, "0 samples", x=np.zeros((0, 6), np.int64))


def test_refuses_labels() -> None:
    refused(InputError, "labels", labels=np.zeros(3, np.int64))
    refused(InputError, "labels", labels=np.zeros(20))
    refused(InputError, "classes 0 to 2", labels=np.full(20, 3))
    refused(InputError, "classes 0 to 2", labels=np.full(20, -1))


@pytest.mark.parametrize("clock_ns", [0, -1, float("nan"), float("inf"), "fast", None])
def test_refuses_clocks(clock_ns: object) -> None:
    refused(EmulationError, "clock_ns", clock_ns=clock_ns)


def test_refuses_a_trace_of_counts() -> None:
    refused(EmulationError, "trace", trace=True)


def test_refuses_mappings_that_do_not_hold_the_network() -> None:
    network, mapping, _ = small()
    a, out = mapping.blocks  # type: ignore[attr-defined]
    chip = mapping.chip  # type: ignore[attr-defined]

    def other(*blocks: Block, **changes: object) -> object:
        made = make_mapping(network, chip, list(blocks))
        return replace(made, **changes) if changes else made  # type: ignore[arg-type]

    refused(MappingError, "'out'", "3 of 3", mapping=other(a))
    refused(MappingError, "'a'", "8 of 8", mapping=other(a, a, out))
    refused(MappingError, "core 99", mapping=other(replace(a, core=99), out))
    refused(MappingError, "'a'", "block", mapping=other(replace(a, channels=(0, 9)), out))
    refused(MappingError, "'in'", mapping=other(a, out, whole(network, "in", 3)))
    over = edit_chip(chip, limits__neurons=7)
    refused(MappingError, "8 neurons", "7", mapping=other(a, out, chip=over))
    usage = np.array([[8, 6, 8, 1 << 40], [3, 8, 0, 100]])
    refused(MappingError, "synapse memory bits", mapping=other(a, out, usage=usage))


def test_refuses_impossible_queues() -> None:
    chip = load_chip("toy")
    for size in (0, -1, 2.5):
        with pytest.raises(ChipFileError, match="link_buffer_messages"):
            edit_chip(chip, mesh__link_buffer_messages=size)


def test_an_unknown_queue_size_is_assumed() -> None:
    network, mapping, x = small()
    chip = edit_chip(load_chip("loihi1"), mesh__link_buffer_messages=None)
    mapping = make_mapping(network, chip, [whole(network, "a", 0), whole(network, "out", 5)])
    report = emulate(network, mapping, x, mode="cycle")
    assert "mesh.link_buffer_messages" in report.assumed


def test_a_network_without_inputs_runs() -> None:
    network = Network(
        populations=(
            PolarityMultiSpike(
                name="a", shape=(2,), theta=np.array(2), bias=np.array(3), levels=(0, 1)
            ),
            Readout(name="o", shape=(2,)),
        ),
        projections=(Identity(source="a", target="o"),),
        max_steps=4,
    )
    mapping = make_mapping(
        network, load_chip("toy"), [whole(network, "a", 0), whole(network, "o", 1)]
    )
    for mode in ("counts", "cycle"):
        report = emulate(network, mapping, {}, 4, mode=mode)  # type: ignore[arg-type]
        assert report.readouts["o"].tolist() == [[4, 4]]


def test_a_time_too_long_for_the_clock_is_refused() -> None:
    with pytest.raises(ChipFileError, match=r"time\.packet_in.*less than or equal to 1000000000"):
        edit_chip(load_chip("toy"), profiles__toy__time__packet_in=2e9)


@pytest.mark.parametrize("mode", ["counts", "cycle"])
def test_progress_ends_at_all_of_it(mode):
    network, mapping, x = small()
    seen = []
    emulate(network, mapping, x, 2, mode=mode, progress=lambda *done: seen.append(done))
    assert seen == sorted(seen)
    total = len(x) if mode == "counts" else network.hardware_steps(2, len(x)) + 1
    assert seen[-1] == (total, total)

"""Traffic at its worst: all to one, saturated links, long samples, silence, maximal spikes.

Nothing is lost, nothing hangs, spikes stay exact, and waiting shows where it must.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from emulator_cases import edit_chip, make_mapping, random_case
from random_networks import random_units

from pmsm_hw import Dense, Identity, Input, Network, PolarityMultiSpike, Readout, reference
from pmsm_hw.emulator import Report, emulate
from pmsm_hw.mapping import Block, Chip, load_chip

TOY = edit_chip(
    load_chip("toy"), mesh__columns=5, mesh__rows=5, limits__neurons=4096,
    mesh__link_buffer_messages=2,
)  # fmt: skip


def spread_over(network: Network, name: str, cores: list[int]) -> list[Block]:
    """A flat population in equal parts on cores."""
    n = network[name].n_neurons
    cuts = [n * i // len(cores) for i in range(len(cores) + 1)]
    return [
        Block(population=name, channels=(a, b), rows=(0, 1), columns=(0, 1), core=core)
        for a, b, core in zip(cuts, cuts[1:], cores, strict=False)
        if b > a
    ]


def loud(name: str, n: int, k: int = 4, mode: str = "unit") -> PolarityMultiSpike:
    """Neurons that send k spikes each step."""
    return PolarityMultiSpike(
        name=name, shape=(n,), theta=np.array(1), bias=np.array(k), v_init=np.array(0),
        levels=(0, k), rule="reset", spike_mode=mode,  # type: ignore[arg-type]
    )  # fmt: skip


def run(network: Network, blocks: list[Block], chip: Chip = TOY, **options: Any) -> Report:
    modes = {p.name: p.spike_mode for p in network if getattr(p, "spike_mode", "auto") != "auto"}
    mapping = make_mapping(network, chip, blocks, modes)
    x = options.pop("x", {})
    report = emulate(network, mapping, x, mode="cycle", **options)
    counted = emulate(network, mapping, x)
    assert report.counts == counted.counts
    assert report.counts.messages_in.sum() == report.counts.messages_out.sum()
    return report


def test_all_to_one_core() -> None:
    """24 cores send to one: it is busy from the first message to the last."""
    network = Network(
        populations=(loud("a", 240), Readout(name="out", shape=(8,))),
        projections=(Dense(source="a", target="out", weight=np.ones((8, 240), np.int8)),),
    )
    cores = [2 * tile for tile in range(25) if tile != 12]
    report = run(network, [*spread_over(network, "a", cores), *spread_over(network, "out", [24])])
    assert report.readouts["out"].tolist() == [[240 * 4] * 8]
    n_messages = 240 * 4
    service = 4 + 8 * 1
    work = report.timing.step_ps[1] / 1000 - 170  # where the toy's table of barriers ends
    assert n_messages * service <= work <= n_messages * service + 60
    index = report.mapping.cores.index(24)
    assert report.timing.cores.receive_ns[index] == n_messages * service
    assert report.timing.cores.blocked_ns.sum() > 0
    assert report.queue_peak is not None
    assert report.queue_peak[0] == 2


def test_a_saturated_link_sets_the_pace() -> None:
    """Two cores of one tile send to two of the next over one link, which is always busy."""
    chip = edit_chip(TOY, profiles__toy__time__hop_east=20.0)
    network = Network(
        populations=(loud("a", 50), loud("b", 50), loud("c", 1), loud("d", 1)),
        projections=(
            Dense(source="a", target="c", weight=np.ones((1, 50), np.int8)),
            Dense(source="b", target="d", weight=np.ones((1, 50), np.int8)),
        ),
    )
    blocks = [
        block
        for name, core in (("a", 0), ("b", 1), ("c", 2), ("d", 3))
        for block in spread_over(network, name, [core])
    ]
    report = run(network, blocks, chip)
    n_messages = 2 * 50 * 4
    # first out at 3 + 1 + 2, the last one is delivered and received after its hop
    assert report.timing.step_ps[1] / 1000 == 110 + 6 + n_messages * 20 + 1 + 4 + 1
    assert (report.timing.cores.blocked_ns[:2] > 0).all()


def test_crossing_traffic_does_not_hang() -> None:
    """Everybody to everybody on a 5 x 5 mesh with buffers of one message."""
    chip = edit_chip(TOY, mesh__link_buffer_messages=1)
    n = 50
    rng = np.random.default_rng(0)
    network = Network(
        populations=(loud("a", n), Readout(name="out", shape=(n,))),
        projections=(Dense(source="a", target="out", weight=rng.integers(1, 9, (n, n))),),
    )
    cores = list(range(50))
    report = run(
        network, spread_over(network, "a", cores) + spread_over(network, "out", cores), chip
    )
    assert report.counts.total()["messages"] == n * n * 4
    assert np.array_equal(
        report.readouts["out"][0], network.projections[0].weight.astype(np.int64).sum(axis=1) * 4
    )


def test_silence_costs_updates_and_barriers_only() -> None:
    network = Network(
        populations=(
            Input(name="in", shape=(10,), levels=(0, 9)),
            PolarityMultiSpike(name="a", shape=(10,), theta=np.array(9), levels=(2, 2)),
            Readout(name="out", shape=(10,)),
        ),
        projections=(Identity(source="in", target="a"), Identity(source="a", target="out")),
    )
    blocks = [*spread_over(network, "a", [0]), *spread_over(network, "out", [9])]
    x = np.zeros((3, 10), np.int64)
    report = run(network, blocks, x=x)
    total = report.counts.total()
    assert total.pop("neuron_updates_idle") == 3 * 20
    assert set(total.values()) == {0}
    assert (report.timing.step_ps / 1000).tolist() == [110, 130, 130, 130, 130]
    assert set(report.energy.parts) == {"neurons", "static"}


@pytest.mark.parametrize("mode", ["unit", "graded"])
def test_maximal_spikes(mode: str) -> None:
    """The largest levels that a population can have."""
    top = (1 << 15) - 1 if mode == "graded" else 300
    network = Network(
        populations=(loud("a", 3, top, mode), Readout(name="out", shape=(2,))),
        projections=(
            Dense(source="a", target="out", weight=np.array([[127, -128, 1], [1, 1, 1]])),
        ),
    )
    report = run(network, [*spread_over(network, "a", [0]), *spread_over(network, "out", [5])])
    assert report.readouts["out"].tolist() == [[0, 3 * top]]
    assert report.counts.total()["messages"] == 3 * (top if mode == "unit" else 1)
    assert report.counts.total()["spikes"] == 3 * top


@pytest.mark.parametrize("zeros", [0, 1])
def test_counts_beyond_32_bits(zeros: int) -> None:
    """One frame whose count leaves 32 bits, by a constant fan-out and neuron by neuron."""
    top = (1 << 15) - 1
    weight = np.ones((400, 200), np.int8)
    weight[0, :zeros] = 0
    network = Network(
        populations=(loud("a", 200, top, "graded"), Readout(name="out", shape=(400,))),
        projections=(Dense(source="a", target="out", weight=weight),),
    )
    report = run(network, [*spread_over(network, "a", [0]), *spread_over(network, "out", [5])])
    assert report.counts.unit_synops.sum() == (80_000 - zeros) * top > 1 << 31
    assert report.counts.total()["synaptic_operations"] == 80_000 - zeros


def test_long_samples() -> None:
    for seed in (1, 4):
        network, mapping = random_case(seed, max_steps=64)
        x = random_units(network, seed, n_samples=2, n_steps=64)
        result = reference.run(network, x, 64)
        report = emulate(network, mapping, x, 64, mode="cycle")
        for name, spikes in result.spikes.items():
            assert np.array_equal(spikes, report.spikes[name])
        assert report.counts == emulate(network, mapping, x, 64).counts
        assert len(report.timing.step_ps) == network.hardware_steps(64, 2) + 1


def test_a_trace_adds_up() -> None:
    network, mapping = random_case(11)
    x = random_units(network, 11, n_samples=3, n_steps=2)
    report = emulate(network, mapping, x, 2, mode="cycle", trace=True)
    trace, cores = report.trace, report.timing.cores
    assert trace is not None
    assert trace.shape == (len(report.timing.step_ps), len(mapping.cores))
    assert np.array_equal(trace["update"].sum(axis=0) / 1000, cores.update_ns)
    assert np.array_equal(trace["blocked"].sum(axis=0) / 1000, cores.blocked_ns)
    assert np.array_equal(trace["receive"].sum(axis=0) / 1000, cores.receive_ns)
    update, blocked, update_end, receive, start, end = (trace[name] for name in trace.dtype.names)
    assert (update_end == update + blocked).all()
    assert (receive <= end - start).all()
    # no core works on after its step ended
    work = report.timing.step_ps - round(cores.barrier_ns * 1000) // len(report.timing.step_ps)
    assert (np.maximum(update_end, end) <= work[:, None]).all()

"""Time and energy of networks so small that they are computed by hand, with the toy chip's values.

Times in ns: idle update 2, active update 3, firing 1 more, packet out 2, hop east or west 3, north
or south 5, delivery within a tile 1, packet in 4, synaptic operation 1, barrier 100 for one tile
and 10 for each further one. Energies in pJ: idle update 20, active update 30, firing 5, packet out
7, hop 2 (east, west) or 4, delivery 1, packet in 3, synaptic operation 10; static power 1 mW.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from emulator_cases import edit_chip, make_mapping, whole

from pmsm_hw import Dense, Identity, Input, Network, PolarityMultiSpike, Readout
from pmsm_hw.emulator import Report, emulate
from pmsm_hw.mapping import Chip, load_chip

TOY = load_chip("toy")


def firing(name: str, n: int = 1, k: int = 1, **options: Any) -> PolarityMultiSpike:
    """Neurons that send k each step, whatever happens."""
    return PolarityMultiSpike(
        name=name, shape=(n,), theta=np.array(1), bias=np.array(k), v_init=np.array(0),
        levels=(8, 8), rule="reset", **options,
    )  # fmt: skip


def silent(name: str, n: int = 1) -> PolarityMultiSpike:
    """Neurons that never fire."""
    return PolarityMultiSpike(name=name, shape=(n,), theta=np.array(1 << 20), levels=(0, 1))


def core_at(chip: Chip, x: int, y: int, which: int = 0) -> int:
    return (y * chip.columns + x) * chip.mesh.cores_per_tile.value + which


def run(
    populations: list[Any],
    links: list[tuple[str, str]],
    places: dict[str, int],
    *,
    chip: Chip = TOY,
    mode: str = "cycle",
    **options: Any,
) -> Report:
    """One sample of one step; all weights 1."""
    shapes = {p.name: p.n_neurons for p in populations}
    network = Network(
        name="by hand",
        populations=tuple(populations),
        projections=tuple(
            Dense(source=a, target=b, weight=np.ones((shapes[b], shapes[a]), np.int8))
            for a, b in links
        ),
    )
    blocks = [whole(network, name, core) for name, core in places.items()]
    modes = {p.name: p.spike_mode for p in populations if not isinstance(p, Readout)}
    modes = {name: m for name, m in modes.items() if m != "auto"}
    mapping = make_mapping(network, chip, blocks, modes)
    return emulate(network, mapping, options.pop("x", {}), mode=mode, **options)  # type: ignore[arg-type]


def steps(report: Report) -> list[float]:
    return (report.timing.step_ps / 1000).tolist()


def test_one_neuron_that_fires() -> None:
    report = run([firing("a")], [], {"a": 0})
    assert steps(report) == [100, 100 + 3 + 1]
    assert report.energy.parts == {"neurons": 30, "spikes": 5, "static": 204}
    assert report.latency_ns == 204
    assert report.timing.latency_cycles == 204


def test_one_neuron_that_is_idle() -> None:
    report = run([silent("a")], [], {"a": 0})
    assert steps(report) == [100, 102]
    assert report.energy.parts == {"neurons": 20, "static": 202}


def test_one_spike_within_a_core() -> None:
    # fires at 4, packet out at 6, delivered at 7, received and looked up at 12
    report = run([firing("a"), silent("b")], [("a", "b")], {"a": 0, "b": 0})
    assert steps(report) == [100, 100 + 12, 100 + 3]
    assert report.energy.parts == {
        "synapses": 10,
        "neurons": 60,
        "spikes": 5,
        "packets": 7 + 3,
        "mesh": 1,
        "static": 315,
    }


@pytest.mark.parametrize(
    ("dx", "dy", "ns", "pj", "direction"),
    [(1, 0, 3, 2, "east"), (-1, 0, 3, 2, "west"), (0, 1, 5, 4, "north"), (0, -1, 5, 4, "south")],
)
def test_one_hop_in_each_direction(dx: int, dy: int, ns: int, pj: int, direction: str) -> None:
    chip = edit_chip(TOY, mesh__columns=3, mesh__rows=3)
    a, b = core_at(chip, 1, 1), core_at(chip, 1 + dx, 1 + dy)
    report = run([firing("a"), silent("b")], [("a", "b")], {"a": a, "b": b}, chip=chip)
    # two tiles: barrier 110; out at 6, one hop, delivery, packet in, one synapse
    assert steps(report) == [110, 110 + 6 + ns + 1 + 4 + 1, 110 + 3]
    total = report.counts.total()
    hops = {d: total[f"hops_{d}"] for d in ("east", "west", "north", "south")}
    assert hops == {**dict.fromkeys(hops, 0), direction: 1}
    assert report.energy.parts["mesh"] == 1 + pj
    assert list(report.counts.links()) == [((1, 1), direction, 1)]


def test_first_along_x_then_along_y() -> None:
    chip = edit_chip(TOY, mesh__columns=3, mesh__rows=3)
    places = {"a": core_at(chip, 0, 0), "b": core_at(chip, 2, 1)}
    report = run([firing("a"), silent("b")], [("a", "b")], places, chip=chip)
    assert sorted(report.counts.links()) == [
        ((0, 0), "east", 1), ((1, 0), "east", 1), ((2, 0), "north", 1),
    ]  # fmt: skip
    assert steps(report)[1] == 110 + 6 + 3 + 3 + 5 + 1 + 4 + 1


def test_two_messages_contend_for_a_link() -> None:
    # both out at 6 in one tile; the link takes one at 6, the other at 9; they go to two cores
    places = {"a": 0, "b": 1, "c": 2, "d": 3}
    populations = [firing("a"), firing("b"), silent("c"), silent("d")]
    report = run(populations, [("a", "c"), ("b", "d")], places)
    assert steps(report)[1] == 110 + 6 + 3 + 3 + 1 + 5
    # without contention, to two cores of their own tile
    apart = run(populations, [("a", "c"), ("b", "d")], {"a": 0, "b": 2, "c": 1, "d": 3})
    assert steps(apart)[1] == 110 + 6 + 1 + 5


def test_a_core_receives_one_message_at_a_time() -> None:
    # both delivered to core 2: the second is delivered at 13 and waits for the first until 15
    places = {"a": 0, "b": 1, "c": 2}
    report = run([firing("a"), firing("b"), silent("c")], [("a", "c"), ("b", "c")], places)
    assert steps(report)[1] == 110 + 15 + 5


def test_a_full_queue_blocks_the_sender() -> None:
    # five unit spikes into a queue of one. Out at 6, 8, 10, 12, (14); looked up from 7, 12, 17,
    # 22, 27. The third waits in the router until 12 and the fourth until 17, so that the fifth,
    # ready at 14, cannot leave the core before 17; received at 27 + 5.
    chip = edit_chip(TOY, mesh__link_buffer_messages=1)
    populations = [firing("a", k=5, spike_mode="unit"), silent("b")]
    report = run(populations, [("a", "b")], {"a": 0, "b": 1}, chip=chip, trace=True)
    assert steps(report)[1] == 100 + 32
    assert report.counts.total()["messages"] == 5
    assert report.trace is not None
    # updating, blocked, end of updates; receiving, start, end
    assert report.trace[1, 0].tolist() == (14_000, 3_000, 17_000, 0, 0, 0)
    assert report.trace[1, 1].tolist() == (0, 0, 0, 25_000, 7_000, 32_000)
    assert report.timing.cores.blocked_ns.tolist() == [3.0, 0.0]
    # with room for all, the core never waits, and the receiver is as busy as before
    wide = run(populations, [("a", "b")], {"a": 0, "b": 1}, trace=True)
    assert steps(wide)[1] == 100 + 32
    assert wide.trace is not None
    assert wide.trace[1, 0].tolist() == (14_000, 0, 14_000, 0, 0, 0)


def test_back_pressure_goes_through_links() -> None:
    # Buffers of one message, six messages over one link. Ready at 6, 8, 10, ...; the link takes 3,
    # so message i leaves at 6, 9, 12 as long as there is room at its far end; the core looks one up
    # every 5 from 10 on and its queue of one opens as it starts the next: 10, 15, 20, 25, 30, 35.
    chip = edit_chip(TOY, mesh__link_buffer_messages=1)
    populations = [firing("a", k=6, spike_mode="unit"), silent("b")]
    report = run(populations, [("a", "b")], {"a": 0, "b": 2}, chip=chip)
    assert steps(report)[1] == 110 + 10 + 6 * 5
    assert report.timing.cores.blocked_ns[0] > 0
    assert report.queue_peak is not None
    assert report.queue_peak[0] == 1


def test_neurons_are_updated_in_order() -> None:
    # core 0 holds b (2 idle neurons), then a: its packet is out 4 ns later
    report = run(
        [firing("a"), silent("b", 2), silent("c")],
        [("a", "c")],
        {"b": 0, "a": 0, "c": 1},
    )
    assert steps(report)[1] == 100 + 4 + 6 + 1 + 5
    other = run(
        [firing("a"), silent("b", 2), silent("c")],
        [("a", "c")],
        {"a": 0, "b": 0, "c": 1},
    )
    assert steps(other)[1] == 100 + 6 + 1 + 5


@pytest.mark.parametrize(("n_tiles", "barrier"), [(1, 100), (2, 110), (3, 120), (8, 170)])
def test_barrier_by_tiles(n_tiles: int, barrier: float) -> None:
    populations = [silent(f"p{i}") for i in range(n_tiles)]
    places = {f"p{i}": 2 * i for i in range(n_tiles)}
    report = run(populations, [], places)
    assert report.mapping.n_tiles == n_tiles
    assert steps(report) == [barrier, barrier + 2]
    assert report.timing.cores.barrier_ns == 2 * barrier


def test_inputs_enter_at_the_port() -> None:
    # the port is at tile (0, 0), the core at (1, 0); graded: one message, in flight from 0 on
    populations = [Input(name="x", shape=(1,), levels=(0, 9)), silent("a")]
    report = run(populations, [("x", "a")], {"a": 2}, x=np.array([[7]]))
    assert steps(report) == [100 + 3 + 1 + 4 + 1, 100 + 3]
    assert report.energy.parts == {
        "synapses": 10, "neurons": 30, "packets": 3, "mesh": 1 + 2, "static": 212,
    }  # fmt: skip
    # seven unit spikes go one after the other over the link
    unit = Input(name="x", shape=(1,), levels=(0, 9), spike_mode="unit")
    report = run([unit, silent("a")], [("x", "a")], {"a": 2}, x=np.array([[7]]))
    assert report.counts.total()["messages"] == 7
    assert steps(report) == [100 + 4 + 7 * 5, 100 + 3]


def test_simple_time_is_the_busiest_core() -> None:
    places = {"a": 0, "b": 2}
    populations = [firing("a", k=5, spike_mode="unit"), silent("b")]
    report = run(populations, [("a", "b")], places, mode="counts")
    # core 0 updates 3 + 1 and sends 5 packets of 2; core 2 receives five of 4 + 1
    assert steps(report) == [110, 110 + 25, 110 + 3]
    assert report.timing.cores.update_ns.tolist() == [14, 3]
    assert report.timing.cores.receive_ns.tolist() == [0, 25]
    assert report.timing.model == "simple"


def test_a_delay_line_holds_a_spike() -> None:
    # x reaches c over a and b, and directly: the direct spike waits two steps at c's core
    network = Network(
        name="skip",
        populations=(
            Input(name="x", shape=(1,), levels=(0, 9)),
            silent("a"),
            silent("b"),
            Readout(name="c", shape=(1,)),
        ),
        projections=(
            Identity(source="x", target="a"),
            Identity(source="a", target="b"),
            Identity(source="b", target="c"),
            Identity(source="x", target="c"),
        ),
    )
    blocks = [whole(network, name, i) for i, name in enumerate(("a", "b", "c"))]
    mapping = make_mapping(network, TOY, blocks)
    report = emulate(network, mapping, np.array([[5], [8]]), mode="cycle", trace=True)
    assert report.readouts["c"].tolist() == [[5], [8]]
    assert report.trace is not None
    # received in steps 0 and 1, two messages each: in to a and to c
    assert (report.trace["receive"] > 0).tolist() == [
        [True, False, True], [True, False, True], [False] * 3, [False] * 3, [False] * 3,
    ]  # fmt: skip


def test_steady_interval_and_latency() -> None:
    report = run(
        [Input(name="x", shape=(1,), levels=(0, 1)), silent("a"), Readout(name="o", shape=(1,))],
        [("x", "a"), ("a", "o")],
        {"a": 0, "o": 1},
        x=np.ones((5, 1), np.int64),
    )
    # step 0: packet delivered at 1, received at 6. Later: also updates (a active 3, o idle 2)
    assert steps(report) == [106, 106, 106, 106, 106, 103, 102]
    assert report.latency_ns == 3 * 106
    assert report.interval_ns == 106
    assert report.timing.pipelined
    assert report.timing.inferences_per_s == pytest.approx(1e9 / 106)
    slow = run(
        [Input(name="x", shape=(1,), levels=(0, 1)), silent("a")], [("x", "a")], {"a": 0},
        x=np.ones((1, 1), np.int64), clock_ns=2.5,
    )  # fmt: skip
    assert slow.timing.latency_cycles == -(-209 // 2.5)
    assert not slow.timing.pipelined

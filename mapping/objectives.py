"""What a mapping is expected to cost: time and energy of an inference, before it is emulated.

The step model of the emulator's counts mode, fed with expected messages: a step lasts as long as
the busiest core sends or receives, plus the barrier; a quarter of the time of the fullest link is
added, since the cycle mode shows cores held up by it. Populations take part in the steps of their
wave. Constants that the chip's default profile does not know count as
zero, as they do in the emulator.
"""

from __future__ import annotations

from collections.abc import Mapping as MappingType
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pmsm_hw.mapping.chip import Times
from pmsm_hw.mapping.partition.grouping import Grouping
from pmsm_hw.mapping.partition.tiling import cut_within
from pmsm_hw.mapping.placement.places import links_of, place
from pmsm_hw.mapping.resources.connectivity import fan_out_box
from pmsm_hw.mapping.routing.traffic import IO, core_traffic
from pmsm_hw.mapping.routing.xy import link_loads
from pmsm_hw.mapping.settings import Settings
from pmsm_hw.network import Input

if TYPE_CHECKING:
    from pmsm_hw.mapping.blocks import Block
    from pmsm_hw.mapping.chip import Chip, Energies
    from pmsm_hw.mapping.partition.tiling import Cut
    from pmsm_hw.mapping.resources import Resources
    from pmsm_hw.mapping.routing.traffic import Traffic
    from pmsm_hw.network import Network

__all__ = ["Expected", "block_limits", "core_work", "expect", "expected_rates", "spread", "work_of"]

_SHARES = (0.98, 0.92, 0.85, 0.7, 0.6, 0.5, 0.42, 0.35, 0.25, 0.18, 0.12, 0.06)
"""Of the cores that there are: how many to spread over."""
_SHARES_OF_MANY = (0.92, 0.7, 0.5)
_MANY = 256
_MOST = 1536
"""Networks that take more cores are not spread: there is little room, and it takes long."""
_EFFORT = 0.02
"""Of the search for places, while mappings are compared."""
_BLOCKS_GROUPED = 12_000
"""Blocks that are put onto cores in all groupings that are tried, about."""
_NEAR = 1.1
"""The mapping of fewest cores is placed too where it is expected to cost at most so much more."""
_HELD_UP = 0.25
"""Share of the fullest link's time by which cores are expected to be held up."""

_ROUNDED = 1e-9
"""Of a bound: how far sums in another order may be off."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What a mapping is expected to cost.

    Parameters
    ----------
    latency_ns
        From the first input to the last readout of a sample.
    energy_pj
        Of a sample alone: messages, hops, crossings of chips, and static power during the latency.
        Synaptic operations and neuron updates, the same in every mapping, are left out.
    """

    latency_ns: float
    energy_pj: float

    def of(self, objective: str) -> tuple[float, float]:
        """What ``"latency"`` or ``"energy"`` compares: its own cost, then the other one."""
        values = (self.latency_ns, self.energy_pj)
        return values[::-1] if objective == "energy" else values


def expected_rates(
    network: Network, modes: MappingType[str, str], rates: MappingType[str, Floats], measured: bool
) -> dict[str, Floats]:
    """Messages of each neuron and step.

    Measured traffic is of a sample, and divided by the steps. Without it every neuron sends one
    message, but inputs that send unit spikes the mean of their levels.
    """
    if measured:
        return {name: rate / network.max_steps for name, rate in rates.items()}
    found = dict(rates)
    for p in network:
        if isinstance(p, Input) and modes[p.name] == "unit":
            low, high = p.levels
            mean = np.abs(np.arange(low, high + 1)).mean()
            found[p.name] = np.broadcast_to(np.float64(mean), rates[p.name].shape)
    return found


def expect(
    resources: Resources,
    cores: Sequence[Sequence[Block]],
    rates: MappingType[str, Floats],
    traffic: Traffic,
    places: NDArray[np.int64],
    *,
    work: tuple[Floats, Floats] | None = None,
) -> Expected:
    """Cost of placed cores.

    Parameters
    ----------
    resources
        Of network and chip.
    cores
        Blocks of each core.
    rates
        From `expected_rates`.
    traffic
        From `core_traffic` with these rates, core by core.
    places
        ``(n_cores,)`` int64, the chip's core of each.
    work
        `core_work` of the same, wherever they are; counted again by default.
    """
    chip, network = resources.chip, resources.network
    profile = chip.profile()
    send, receive = core_work(resources, cores, rates, traffic) if work is None else work
    loads = _loads(chip, places, traffic, network.depth + 1)
    carry = (loads * _by_direction(profile.time)).reshape(len(loads), -1)
    n_tiles = len(np.unique(places // chip.mesh.cores_per_tile.value))
    barrier = profile.time.barrier_ns(n_tiles) or 0.0
    n_steps = network.max_steps

    def busiest(wave: slice) -> float:
        work = max(float(part[wave].sum(axis=0).max(initial=0.0)) for part in (send, receive))
        return work + _HELD_UP * float(carry[wave].sum(axis=0).max(initial=0.0)) + barrier

    steps = [
        busiest(slice(max(0, step - n_steps + 1), step + 1))
        for step in range(network.depth + n_steps)
    ]
    latency = sum(steps)
    energy = profile.energy
    moved = _moved(energy, traffic)
    moved += float((loads * _by_direction(energy)).sum())
    moved += _crossings(chip, loads) * _value(energy.chip_crossing)
    static = _value(profile.static_power_mw) * chip.n_chips
    return Expected(latency_ns=latency, energy_pj=n_steps * moved + static * latency)


def _moved(energy: Energies, traffic: Traffic) -> float:
    """Energy of the messages of a step but for their ways, pJ."""
    from_cores = float(traffic.messages[traffic.source != IO].sum())
    everywhere = float(traffic.messages.sum())
    moved = from_cores * _value(energy.packet_out)
    return moved + everywhere * (_value(energy.packet_in) + _value(energy.within_tile))


def _value(quantity: object) -> float:
    return 0.0 if quantity is None else float(quantity.value)  # type: ignore[attr-defined]


def _by_direction(constants: Energies | Times) -> Floats:
    return np.array(
        [_value(getattr(constants, f"hop_{d}")) for d in ("east", "west", "north", "south")]
    )


def core_work(
    resources: Resources,
    cores: Sequence[Sequence[Block]],
    rates: MappingType[str, Floats],
    traffic: Traffic | None,
) -> tuple[Floats, Floats]:
    """Time in which each core updates and sends, and receives, ``(depths, cores)`` ns a step.

    Parameters
    ----------
    resources, cores, rates, traffic
        As for `expect`; None: messages take no time.
    """
    network, time = resources.network, resources.chip.profile().time
    shape = (network.depth + 1, len(cores))
    send, receive = np.zeros(shape), np.zeros(shape)
    if traffic is not None:
        inside = traffic.source != IO
        at = (traffic.depth[inside], traffic.source[inside])
        np.add.at(send, at, traffic.messages[inside] * _value(time.packet_out))
        at = (traffic.depth, traffic.target)
        np.add.at(receive, at, traffic.messages * _value(time.packet_in))
    active, spike = _value(time.neuron_active), _value(time.spike)
    known: dict[tuple[object, ...], float] = {}
    for index, blocks in enumerate(cores):
        for block in blocks:
            name = block.population
            fired = float(np.minimum(rates[name][block.slices()], 1.0).sum())
            n_compartments = block.n_neurons * resources.compartments(name)
            send[network.depths[name], index] += n_compartments * active + fired * spike
            for wire in resources.into(name):
                source = wire.projection.source
                key = (wire.projection.name, block.channels, block.rows, block.columns)
                if key not in known:
                    box = fan_out_box(network, wire.projection, block)
                    where = (slice(*box.channels), slice(*box.rows), slice(*box.columns))
                    kind = resources.block_bits(wire, block)[1]
                    operations = float((box.count * rates[source][where]).sum())
                    known[key] = operations * _value(time.synaptic(kind))
                receive[network.depths[source], index] += known[key]
    return send, receive


def _loads(chip: Chip, places: NDArray[np.int64], traffic: Traffic, n_depths: int) -> Floats:
    """Messages over each link by depth of the sender, ``(depths, rows, columns, 4)``."""
    io_x, io_y = chip.mesh.io_position.value
    tile = np.append(places // chip.mesh.cores_per_tile.value, io_y * chip.columns + io_x)
    xy = np.stack([tile % chip.columns, tile // chip.columns], axis=1)
    # only the rows and columns in use: boards are large
    columns, rows = (int(n) for n in xy.max(axis=0) + 1)
    loads = np.zeros((n_depths, rows, columns, 4))
    for depth in np.unique(traffic.depth).tolist():
        some = traffic.depth == depth
        source, target = traffic.source[some], traffic.target[some]
        loads[depth] = link_loads(columns, rows, xy[source], xy[target], traffic.messages[some])
    return loads


def _crossings(chip: Chip, loads: Floats) -> float:
    """Messages that leave a chip."""
    total = loads.sum(axis=0)
    y, x = np.indices(total.shape[:2])
    width, height = chip.mesh.columns.value, chip.mesh.rows.value
    edge = np.stack(
        [x % width == width - 1, x % width == 0, y % height == height - 1, y % height == 0], axis=-1
    )
    return float(total[edge].sum())


def spread(
    resources: Resources,
    starts: Sequence[Sequence[Sequence[Block]]],
    cut: Cut,
    rates: MappingType[str, Floats],
    settings: Settings,
) -> list[tuple[list[list[Block]], NDArray[np.int64] | None]]:
    """Use free cores where that makes a mapping faster, or saves energy.

    Smaller blocks, each on a core of its own, are tried for several numbers of cores, up to all
    cores of the chips that the network needs anyway: no further chip is powered. Where populations
    are more than cores, whole populations share them, evenly by their work or one after the other.

    Parameters
    ----------
    resources
        Of network and chip.
    starts, cut
        Blocks of each core in mappings to start from, fewest cores first, and their cut.
    rates
        From `expected_rates`.
    settings
        Objective ``"latency"`` or ``"energy"``: what is to be low.

    Returns
    -------
    list
        Blocks of each core, and places of the cores (``None``: not looked for), of what is expected
        to suit the objective best, then of what suits the other one, and of the first start where
        it is not far from these: to be compared again when they are placed well.
    """
    chip, objective = resources.chip, settings.objective
    tried = [[list(blocks) for blocks in start] for start in starts]
    fewest = len(tried[0])
    per_chip = chip.n_cores // chip.n_chips
    room = -(-fewest // per_chip) * per_chip
    tried = [cores for cores in tried if len(cores) <= room]
    if fewest > _MOST or chip.profile().time == Times():
        return [(tried[-1 if objective == "energy" else 0], None)]
    for share in _SHARES if fewest <= _MANY else _SHARES_OF_MANY:
        n_cores = int(share * room)
        if n_cores <= fewest or settings.is_late:
            break
        settings.say(f"spreading over {n_cores:,} cores")
        for blocks in cut_within(resources, cut.bound, block_limits(resources, rates, n_cores)):
            cores = [[block] for found in blocks.values() for block in found]
            if fewest < len(cores) <= room and cores not in tried:
                tried.append(cores)
    if not settings.is_late:
        tried += [cores for cores in _shared(resources, cut, rates, room) if cores not in tried]
    if len(tried) == 1:
        return [(tried[0], None)]
    settings.say(f"comparing {len(tried)} mappings")
    quiet = Settings(seed=settings.seed)
    costs: list[tuple[Expected, int, NDArray[np.int64]]] = []
    # the first one, then those that may cost least: most others then need no places to be out
    own = [core_work(resources, cores, rates, None) for cores in tried]
    bounds = [_least(resources, work, rates, None) for work in own]
    order = sorted(range(len(tried)), key=lambda i: (i > 0, *bounds[i].of(objective), i))
    for i in order:
        cores = tried[i]
        if costs and (settings.is_late or _is_beaten(bounds[i], costs)):
            continue
        traffic = core_traffic(resources, cores, rates)
        busy = core_work(resources, cores, rates, traffic)
        if costs and _is_beaten(_least(resources, busy, rates, traffic), costs):
            continue
        places = [place(chip, links_of(traffic, len(cores)), effort=_EFFORT, settings=quiet)]
        if chip.n_chips == 1:  # as a round robin has them
            places.append(np.arange(len(cores)))
        costs += [(expect(resources, cores, rates, traffic, at, work=busy), i, at) for at in places]
    costs.sort(key=lambda cost: cost[1])
    chosen: dict[int, None] = {}
    for aim in (objective, "energy" if objective == "latency" else "latency"):
        values = [cost.of(aim) for cost, _, _ in costs]
        best = min(range(len(costs)), key=lambda k: (*values[k], len(tried[costs[k][1]])))
        chosen[best] = None
        if values[0][0] <= _NEAR * values[best][0]:
            chosen[0] = None
    return [(tried[costs[k][1]], costs[k][2]) for k in chosen]


def _is_beaten(least: Expected, costs: Sequence[tuple[Expected, int, NDArray[np.int64]]]) -> bool:
    """Whether something that was found is better for either aim than a bound allows."""
    return all(
        min(getattr(cost, what) for cost, _, _ in costs) < getattr(least, what)
        for what in ("latency_ns", "energy_pj")
    )


def _least(
    resources: Resources,
    work: tuple[Floats, Floats],
    rates: MappingType[str, Floats],
    traffic: Traffic | None,
) -> Expected:
    """Bound of `expect`, wherever the cores are: messages take no time and no hops.

    Parameters
    ----------
    resources
        Of network and chip.
    work
        `core_work` with the same traffic.
    rates
        From `expected_rates`.
    traffic
        From `core_traffic`; None: no message between cores costs anything.
    """
    chip, n_steps = resources.chip, resources.network.max_steps
    profile = chip.profile()
    n_cores = work[0].shape[1]
    fewest = -(-n_cores // chip.mesh.cores_per_tile.value)
    barrier = min(
        profile.time.barrier_ns(n) or 0.0 for n in range(fewest, min(n_cores, chip.n_tiles) + 1)
    )
    busy = np.zeros(len(work[0]) + n_steps - 1)
    for part in work:
        below = np.zeros((len(part) + n_steps, n_cores))
        np.cumsum(part, axis=0, out=below[n_steps:])
        below[:n_steps] = 0
        end = np.concatenate([below[n_steps:], np.repeat(below[-1:], n_steps - 1, axis=0)])
        busy = np.maximum(busy, (end - below[: len(end)]).max(axis=1))
    latency = float((busy + barrier).sum()) * (1 - _ROUNDED)
    moved = 0.0 if traffic is None else _moved(profile.energy, traffic)
    static = _value(profile.static_power_mw) * chip.n_chips
    energy = (n_steps * moved + static * latency) * (1 - _ROUNDED)
    return Expected(latency_ns=latency, energy_pj=energy)


def _shared(
    resources: Resources, cut: Cut, rates: MappingType[str, Floats], room: int
) -> list[list[list[Block]]]:
    """Cores that whole populations share: any number of them, fewer than populations."""
    n_blocks = sum(map(len, cut.blocks.values()))
    work = work_of(resources, rates)
    per_neuron = {p.name: work[p.name] / p.n_neurons for p in resources.placed}
    grouping = Grouping(resources, cut.blocks, per_neuron)
    most = min(room, n_blocks - 1)
    stride = max(1, -(-most // max(_BLOCKS_GROUPED // n_blocks, 2)))
    found = []
    for n_cores in range(most, 0, -stride):
        found += [grouping.balanced(n_cores), grouping.round_robin(n_cores)]
    return [cores for cores in found if cores is not None]


def block_limits(
    resources: Resources,
    rates: MappingType[str, Floats],
    n_cores: int,
) -> dict[str, int]:
    """Neurons that a block of each population may have if so many cores are to be equally busy.

    Parameters
    ----------
    resources
        Of network and chip.
    rates
        From `expected_rates`.
    n_cores
        Cores to spread over.
    """
    work = work_of(resources, rates)
    low, high = max(sum(work.values()) / n_cores, 1e-9), max(sum(work.values()), 1e-9)
    for _ in range(40):
        middle = (low * high) ** 0.5
        if sum(max(1, int(np.ceil(w / middle))) for w in work.values()) <= n_cores:
            high = middle
        else:
            low = middle
    return {
        p.name: int(np.ceil(p.n_neurons / max(1, int(np.ceil(work[p.name] / high)))))
        for p in resources.placed
    }


def work_of(resources: Resources, rates: MappingType[str, Floats]) -> dict[str, float]:
    """Time in ns that each population would keep one core busy in a step.

    Parameters
    ----------
    resources
        Of network and chip.
    rates
        From `expected_rates`.
    """
    network, time = resources.network, resources.chip.profile().time
    work: dict[str, float] = {}
    for p in resources.placed:
        update = resources.compartments(p.name) * _value(time.neuron_active)
        send = p.n_neurons * (update + _value(time.packet_out))
        receive = 0.0
        for wire in resources.into(p.name):
            source = network[wire.projection.source]
            mean = float(rates[source.name].mean())
            kind = "conv" if wire.shares_lists else "dense"
            operations = _synapses(resources, wire.projection.name) * mean
            receive += operations * _value(time.synaptic(kind))  # type: ignore[arg-type]
        work[p.name] = max(send, receive)
    return work


def _synapses(resources: Resources, projection: str) -> float:
    """Synapses other than zero of a projection."""
    from pmsm_hw.mapping.blocks import Block
    from pmsm_hw.operators import chw

    wire = resources.wires[projection]
    target = resources.network[wire.projection.target]
    c, h, w = chw(target.shape)
    whole = Block(population=target.name, channels=(0, c), rows=(0, h), columns=(0, w), core=0)
    return float(fan_out_box(resources.network, wire.projection, whole).count.sum())

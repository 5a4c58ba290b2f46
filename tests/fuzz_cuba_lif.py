"""Random networks of Loihi's leaky integrate-and-fire neurons, on every engine.

``python tests/fuzz_cuba_lif.py --cases 300`` prints one JSON line; the test suite runs fewer. Each
network runs in loops over plain Python integers (`Oracle`, which shares no arithmetic with the
rest), in the reference, both by numpy and compiled, and mapped in both modes of the emulator. Where
Lava is installed, Lava's own ``PyLifModelBitAcc`` takes the steps of the neurons too, where it has
what they need. Every case is seeded by its number alone: ``--first N --cases 1`` repeats case N.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
import seeded_cases
from loop_oracle import oracle_connections

from pmsm_hw import Conv2d, CubaLif, Dense, Identity, Input, Network, Readout, reference
from pmsm_hw.emulator import emulate
from pmsm_hw.errors import MappingError, NetworkError
from pmsm_hw.mapping import load_chip, map_network
from pmsm_hw.network import MAX_SYNAPSE_DELAY
from pmsm_hw.reference import engine

Rng = np.random.Generator
CHIP = load_chip("loihi2")


def _int(rng: Rng, lo: int, hi: int) -> int:
    """Random integer, both ends included."""
    return int(rng.integers(lo, hi + 1))


def _one_of(rng: Rng, *choices: Callable[[], Any]) -> Any:
    return choices[_int(rng, 0, len(choices) - 1)]()


# -- networks -------------------------------------------------------------------------------------


def _per(rng: Rng, shape: tuple[int, ...], draw: Callable[[], int], *, channels: bool) -> Any:
    """Values for a population, its channels or its neurons."""
    per_channel = (shape[0],) + (1,) * (len(shape) - 1)
    sizes = [(), per_channel] if channels else [(), per_channel, shape]
    size = sizes[_int(rng, 0, len(sizes) - 1)]
    return np.array([draw() for _ in range(int(np.prod(size, dtype=int)))]).reshape(size)


def random_neurons(rng: Rng, name: str, shape: tuple[int, ...], *, plain: bool) -> CubaLif:
    """Parameters out to the ends of their ranges, and where spikes are likely.

    Plain ones have nothing that Lava's model lacks.
    """

    def threshold() -> int:
        return int(_one_of(rng, lambda: _int(rng, 0, 40), lambda: _int(rng, 0, 4000),
                           lambda: 131071, lambda: 0))  # fmt: skip

    def decay(most: int) -> Callable[[], int]:
        return lambda: int(_one_of(rng, lambda: 0, lambda: most, lambda: _int(rng, 0, most),
                                   lambda: _int(rng, 0, 300)))  # fmt: skip

    def bias() -> int:
        return int(_one_of(rng, lambda: 0, lambda: _int(rng, -100, 100), lambda: 4095,
                           lambda: -4096))  # fmt: skip

    more: dict[str, Any] = {
        "refractory": int(_one_of(rng, lambda: 1, lambda: _int(rng, 2, 6), lambda: 64)),
        "reset": "subtract" if rng.random() < 0.4 else "zero",
        "payload_mode": "graded" if rng.random() < 0.25 else "binary",
        "reset_interval": int(_one_of(rng, lambda: 0, lambda: _int(rng, 1, 9))),
        "reset_offset": _int(rng, 0, 12),
    }
    return CubaLif(
        name=name,
        shape=shape,
        vth=_per(rng, shape, threshold, channels=False),
        du=_per(rng, shape, decay(4095), channels=True),
        dv=_per(rng, shape, decay(4096), channels=True),
        bias=_per(rng, shape, bias, channels=False),
        bias_exponent=_int(rng, 0, 7),
        **({} if plain else more),
    )


def random_projection(
    rng: Rng, source: Any, target: Any, name: str, *, delay: int, most_delay: int
) -> Any:
    """Of a kind that joins two shapes, with weights, exponent and delays of synapses."""
    common: dict[str, Any] = {
        "source": source.name, "target": target.name, "name": name, "delay": delay,
        "weight_exponent": int(_one_of(rng, lambda: _int(rng, -8, 7), lambda: _int(rng, 0, 2))),
    }  # fmt: skip
    if source.shape == target.shape and rng.random() < 0.3:
        return Identity(**common, weight=np.int8(_int(rng, -128, 127)))
    is_window = len(source.shape) == 3 == len(target.shape) and source.shape[1] == target.shape[1]
    shape: tuple[int, ...] = (target.n_neurons, source.n_neurons)
    if is_window and source.shape[2] == target.shape[2]:
        shape = (target.shape[0], source.shape[0], 3, 3)
    largest = int(_one_of(rng, lambda: 4, lambda: 127))
    weight = rng.integers(-largest, largest + 1, shape)
    weight[rng.random(shape) < 0.2] = 0
    if rng.random() < 0.5:
        most = min(most_delay, MAX_SYNAPSE_DELAY - delay - 3)  # the chip's, depths included
        common["delays"] = rng.integers(0, most + 1, shape)
    if len(shape) == 4:
        return Conv2d(**common, weight=weight, padding=1)
    return Dense(**common, weight=weight)


def random_network(number: int) -> tuple[Network, dict[str, np.ndarray], int]:
    """Network, input and steps."""
    rng = np.random.default_rng(number)
    n_steps = _int(rng, 4, 20)
    # mostly short ones, that arrive; up to the longest that there is
    most_delay = int(_one_of(rng, lambda: 2, lambda: 2, lambda: 8, lambda: MAX_SYNAPSE_DELAY))
    shapes = [(_int(rng, 1, 6),), (2, _int(rng, 1, 3)), (2, 2, 2), (1, 3, 2)]
    levels = [(0, 1), (0, 255), (-8, 7), (-32768, 32767)][_int(rng, 0, 3)]
    populations: list[Any] = [
        Input(name="x", shape=shapes[_int(rng, 0, 3)], levels=levels),
        *(
            random_neurons(rng, f"n{i}", shapes[_int(rng, 0, 3)], plain=number % 5 < 2)
            for i in range(_int(rng, 1, 3))
        ),
    ]
    projections: list[Any] = []

    def join(source: Any, target: Any, delay: int) -> None:
        projections.append(
            random_projection(
                rng, source, target, f"p{len(projections)}", delay=delay, most_delay=most_delay
            )
        )

    for source, target in pairwise(populations):
        join(source, target, 0)
        if rng.random() < 0.3:  # and a longer way
            join(populations[_int(rng, 0, len(populations) - 2)], target, _int(rng, 3, 5))
        if rng.random() < 0.4:
            join(target, target, _int(rng, 1, 3))
    if rng.random() < 0.3:
        join(populations[-1], populations[1], len(populations) + _int(rng, 0, 1))
    if rng.random() < 0.5:
        populations.append(Readout(name="out", shape=(2,), overflow="saturate"))
        join(populations[-2], populations[-1], 0)
    network = Network(
        populations=tuple(populations), projections=tuple(projections), max_steps=n_steps
    )
    lo, hi = levels
    units = rng.integers(lo, hi + 1, (2, n_steps, *populations[0].shape))
    if rng.random() < 0.4:  # as far as it goes
        units[:] = np.where(rng.random(units.shape) < 0.5, lo, hi)
    units[rng.random(units.shape) < 0.3] = min(max(0, lo), hi)
    return network, {"x": units.astype(np.int32)}, n_steps


# -- loops ----------------------------------------------------------------------------------------


def _toward_zero(x: int, decay: int) -> int:
    kept = abs(x) * (4096 - decay) // 4096
    return kept if x >= 0 else -kept


class Loop:
    """Neurons of one population and sample, in loops over Python integers."""

    def __init__(self, neurons: CubaLif) -> None:
        self.p, self.n = neurons, neurons.n_neurons
        self.of = {
            name: [int(x) for x in np.broadcast_to(getattr(neurons, name), neurons.shape).flat]
            for name in ("vth", "du", "dv", "bias")
        }
        self.u, self.v, self.rc = [0] * self.n, [0] * self.n, [0] * self.n
        self.outside = 0

    def step(self, drive: list[int], t: int) -> list[int]:
        """Spikes of a step."""
        p, spikes = self.p, []
        if p.reset_interval and t % p.reset_interval == p.reset_offset % p.reset_interval:
            self.u, self.v, self.rc = [0] * self.n, [0] * self.n, [0] * self.n
        for i in range(self.n):
            u = _toward_zero(self.u[i], self.of["du"][i] + 1) + 64 * drive[i]
            wrapped = (u + 2**23) % 2**24 - 2**23
            self.outside += wrapped != u
            u = wrapped
            self.u[i] = u
            v = (
                _toward_zero(self.v[i], self.of["dv"][i])
                + u
                + self.of["bias"][i] * 2**p.bias_exponent
            )
            if self.rc[i] > 0:
                v = 0
            if abs(v) > 2**23 - 1:
                v = 2**23 - 1 if v > 0 else -(2**23) + 1
                self.outside += 1
            fires = v > 64 * self.of["vth"][i]
            spikes.append((v // 64 if p.payload_mode == "graded" else 1) if fires else 0)
            if fires:
                v = v - 64 * self.of["vth"][i] if p.reset == "subtract" else 0
                self.rc[i] = p.refractory
            self.v[i] = v
            self.rc[i] = max(self.rc[i] - 1, 0)
        return spikes


class LavaLif:
    """The same by Lava's own model of its LIF process: its code takes the step."""

    def __init__(self, neurons: CubaLif) -> None:
        from lava.proc.lif.models import PyLifModelBitAcc

        self.model: Any = PyLifModelBitAcc({})
        self.p = neurons
        shape = (neurons.n_neurons,)
        self.model.u, self.model.v = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
        for name, dtype in (("vth", np.int32), ("bias", np.int16), ("du", int), ("dv", int)):
            values = np.broadcast_to(getattr(neurons, name), neurons.shape).reshape(-1)
            setattr(self.model, {"bias": "bias_mant"}.get(name, name), values.astype(dtype))
        self.model.bias_exp = np.int16(neurons.bias_exponent)
        self.outside = 0

    @property
    def u(self) -> Any:
        """Current."""
        return self.model.u

    @property
    def v(self) -> Any:
        """Voltage."""
        return self.model.v

    def step(self, drive: list[int], t: int) -> list[int]:
        """Spikes of a step."""
        model = self.model
        if not model.isbiasscaled:
            model.scale_bias()
            model.scale_threshold()
        before = [_toward_zero(int(u), int(d) + 1) for u, d in zip(model.u, model.du, strict=True)]
        for rest, added in zip(before, drive, strict=True):
            wanted = rest + 64 * added
            if (wanted - 2**23) % 2**24 == 0 or not -3 * 2**23 < wanted < 3 * 2**23:
                raise WrongWrapError
        model.subthr_dynamics(activation_in=np.array(drive, np.int32))
        spikes = model.spiking_activation()
        model.reset_voltage(spike_vector=spikes)
        found: list[int] = spikes.astype(int).tolist()
        return found

    @staticmethod
    def can(neurons: CubaLif) -> bool:
        """Whether it has all that a population needs."""
        return (
            neurons.refractory == 1
            and neurons.reset == "zero"
            and neurons.payload_mode == "binary"
            and not neurons.reset_interval
        )


class WrongWrapError(Exception):
    """Lava turns a current of -2**23 into +2**23, and keeps that; it wraps once, not twice."""


class Oracle:
    """A network in loops over Python integers.

    Parameters
    ----------
    network, units, n_steps
        What runs.
    model
        Makes the neurons of a population step.
    """

    def __init__(
        self, network: Network, units: dict[str, np.ndarray], n_steps: int, model: Any = Loop
    ) -> None:
        self.network, self.n_steps = network, n_steps
        n_samples = len(next(iter(units.values())))
        self.spikes: dict[str, Any] = {p.name: [] for p in network}
        self.states: dict[str, Any] = {p.name: [] for p in network if isinstance(p, CubaLif)}
        self.readouts: dict[str, Any] = {p.name: [] for p in network.readouts}
        self.outside = dict.fromkeys((p.name for p in network), 0)
        self.synapses = {q.name: self._synapses(q) for q in network.projections}
        for b in range(n_samples):
            self._sample({name: values[b] for name, values in units.items()}, model)

    def _synapses(self, q: Any) -> list[tuple[int, int, int, int]]:
        """(pre, post, weight, delay) of each."""
        taps = oracle_connections(q, self.network[q.source], self.network[q.target])
        return [(pre, post, weight, q.delay + delay) for pre, post, weight, delay in taps]

    def _sample(self, units: dict[str, np.ndarray], model: Any) -> None:
        network = self.network
        sent: dict[str, list[list[int]]] = {p.name: [] for p in network}
        running: dict[str, Any] = {p.name: model(p) for p in network if isinstance(p, CubaLif)}
        sums = {p.name: [0] * p.n_neurons for p in network.readouts}
        states: dict[str, Any] = {name: {"u": [], "v": []} for name in running}
        for t in range(self.n_steps):
            for p in network.topological:
                if isinstance(p, Input):
                    sent[p.name].append([int(x) for x in units[p.name][t].flat])
                    continue
                drive = [0] * p.n_neurons
                for q in network.into(p.name):
                    arrived = [0] * p.n_neurons
                    for pre, post, weight, delay in self.synapses[q.name]:
                        if delay <= t:
                            arrived[post] += weight * sent[q.source][t - delay][pre]
                    for post, total in enumerate(arrived):
                        e = q.weight_exponent
                        drive[post] += total * 2**e if e >= 0 else total // 2**-e
                if isinstance(p, CubaLif):
                    sent[p.name].append(running[p.name].step(drive, t))
                    for variable, values in states[p.name].items():
                        values.append([int(x) for x in getattr(running[p.name], variable)])
                    continue
                for i, added in enumerate(drive):
                    total = sums[p.name][i] + added
                    held = min(max(total, -(2**23)), 2**23 - 1)
                    self.outside[p.name] += held != total
                    sums[p.name][i] = held
        for name, spikes in sent.items():
            self.spikes[name].append(spikes)
        for name, neurons in running.items():
            self.outside[name] += neurons.outside
            self.states[name].append(states[name])
        for name, total in sums.items():
            self.readouts[name].append(total)


# -- comparison -----------------------------------------------------------------------------------


@contextmanager
def _compiled() -> Any:
    """As if networks were large: compiled loops."""
    large = engine.LARGE_UPDATES
    engine.LARGE_UPDATES = 0
    try:
        yield
    finally:
        engine.LARGE_UPDATES = large


def _equal(mine: Any, its: Any, what: str) -> None:
    if not np.array_equal(np.asarray(mine).reshape(-1), np.asarray(its).reshape(-1)):
        raise AssertionError(f"{what} differ")


def check_reference(oracle: Oracle, network: Network, units: Any, n_steps: int, how: str) -> int:
    """Compare spikes and states of each step, and what left its width; how many were active."""
    network.__dict__.pop("_prepared_layers", None)
    probes = dict.fromkeys(oracle.states, ("u", "v"))
    result = reference.run(network, units, n_steps, probes=probes)
    _compare(oracle, result, how)
    assert result.saturations == {name: n for name, n in oracle.outside.items() if n}, how
    given = reference.units_of(network, units, n_steps)
    done = [a for a in reference.simulate(network, given, n_steps) if a.name != "x"]
    return sum(int(a.active.sum()) for a in done)


def _compare(oracle: Oracle, answer: Any, how: str) -> None:
    for name, samples in oracle.states.items():
        _equal(oracle.spikes[name], answer.spikes[name], f"{how}: spikes of {name}")
        for variable, values in answer.states[name].items():
            mine = [sample[variable] for sample in samples]
            _equal(mine, values, f"{how}: {variable} of {name}")
    for name, totals in oracle.readouts.items():
        _equal(totals, answer.readouts[name], f"{how}: {name}")


def check_emulator(
    oracle: Oracle, network: Network, units: Any, n_steps: int, active: int, seed: int
) -> None:
    """Compare both modes, mapped."""
    mapping = map_network(network, CHIP, seed=seed)
    probes = dict.fromkeys(oracle.states, ("u", "v"))
    reports = {
        mode: emulate(network, mapping, units, n_steps, mode=mode, probes=probes)
        for mode in ("counts", "cycle")
    }
    assert reports["counts"].counts == reports["cycle"].counts
    for mode, report in reports.items():
        _compare(oracle, report, mode)
        outside = {name: n for name, n in oracle.outside.items() if n}
        assert report.counts.saturated() == outside
        assert report.counts.total()["neuron_updates_active"] == active


def check_lava(oracle: Oracle, network: Network, units: Any, n_steps: int) -> str:
    """Compare with steps that Lava's own model takes; what became of it."""
    if not find_spec("lava"):
        return "not installed"
    if not all(LavaLif.can(p) for p in network if isinstance(p, CubaLif)):
        return "not expressible"
    try:
        its = Oracle(network, units, n_steps, LavaLif)
    except WrongWrapError:
        return "excluded, wrong wrap"
    for name in oracle.states:
        _equal(oracle.spikes[name], its.spikes[name], f"Lava: spikes of {name}")
        for mine, sample in zip(oracle.states[name], its.states[name], strict=True):
            _equal([mine["u"], mine["v"]], [sample["u"], sample["v"]], f"Lava: states of {name}")
    return "equal"


def case(number: int) -> dict[str, int]:
    """Check one; what is counted of it."""
    try:
        network, units, n_steps = random_network(number)
    except NetworkError as error:
        if "may add up to" not in error.problem:
            raise
        return {"beyond 64 bits": 1}
    oracle = Oracle(network, units, n_steps)
    active = check_reference(oracle, network, units, n_steps, "numpy")
    with _compiled():
        assert check_reference(oracle, network, units, n_steps, "compiled") == active
    found = {"equal in the reference": 1}
    found[f"Lava: {check_lava(oracle, network, units, n_steps)}"] = 1
    neurons = [p for p in network if isinstance(p, CubaLif)]
    spikes = sum(int(np.count_nonzero(oracle.spikes[p.name])) for p in neurons)
    found |= {"spikes": spikes, "wrapped or saturated": sum(oracle.outside.values())}
    try:
        check_emulator(oracle, network, units, n_steps, active, number)
    except MappingError as error:
        return found | {f"not mapped: {error.problem[:60]}": 1}
    return found | {"equal in counts and cycle mode": 1}


if __name__ == "__main__":
    seeded_cases.main(__doc__ or "", case, cases=300)

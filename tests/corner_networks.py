"""Networks from the corners of the contract, through every engine, against the loop oracle.

Levels up to 32,767 both ways, gains 0 and negative, thresholds from 1 to 2**22 and beyond, up to
4,096 steps, parameters per neuron, dead rows, delays beyond the sample, delays of synapses, sums
shifted either way, all rules, spike modes and projections, states that saturate or are carried on,
one frame a step.

``python tests/corner_networks.py --cases 500 --lava 100`` compares the oracle with the reference
(plain, compiled and threaded, and in each wider type), with the emulator in both modes, and with
Lava (needs a Python for it, see docs/lava.md): every spike, readout and saturation. A failure
prints its seed; ``--first SEED --cases 1`` repeats it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

import numpy as np
from emulator_cases import edit_chip, random_chip, random_mapping, random_modes
from loop_oracle import Arrays, oracle
from random_networks import random_join, random_projection

from pmsm_hw import lava, operators, reference, workers
from pmsm_hw.emulator import emulate
from pmsm_hw.errors import NetworkError
from pmsm_hw.network import (
    RULES,
    STATE_MAX,
    STATE_MIN,
    Conv1d,
    Conv2d,
    Dense,
    Input,
    Network,
    PolarityMultiSpike,
    Population,
    Projection,
    Readout,
)
from pmsm_hw.reference import components, polarity_multi_spike, readout
from pmsm_hw.reference import engine as run_engine

Rng = np.random.Generator

INPUT_LEVELS = (
    (-32767, 32767), (0, 32767), (-32768, 0), (0, 1), (-1, 1), (0, 255), (5, 9), (-128, 127),
    (STATE_MIN, STATE_MAX),
)  # fmt: skip
NEGATIVE_LEVELS = (0, 0, 1, 4, 127, 128, 129, 255, 32767)
POSITIVE_LEVELS = (1, 1, 8, 127, 128, 255, 32767)
NEGATIVE_GAINS = (0, 0, 1, -1, 2, -2, 127, -127)
POSITIVE_GAINS = (1, 1, 2, 4, 127)
THETAS = (1, 2, 3, 7, 1000, 1 << 16, 1 << 22, STATE_MAX)
SHORT_STEPS = (1, 1, 2, 3, 5, 17, 60)
LONG_STEPS = (300, 600, 1100, 2000, 4096)

MOST_MESSAGES = 200_000
"""Unit spikes of a case that cycle mode sends one by one; beyond, they are sent graded."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A network with its inputs."""

    seed: int
    network: Network
    units: Arrays
    n_steps: int
    carry: bool = False


def _pick(rng: Rng, options: Any) -> Any:
    return options[int(rng.integers(len(options)))]


def _magnitude(rng: Rng, size: tuple[int, ...], top: int) -> np.ndarray:
    """Integers of any size up to ``top``, small ones as likely as large ones."""
    values = np.exp(rng.random(size) * np.log(top + 1)).astype(np.int64) - rng.integers(0, 2, size)
    return np.clip(values, 0, top)


def _parameter(rng: Rng, shape: tuple[int, ...], top: int) -> np.ndarray:
    size = _pick(rng, ((), shape[:1], shape))
    return _magnitude(rng, size, top) * rng.choice([-1, 1], size)


def corner_neurons(rng: Rng, name: str, shape: tuple[int, ...], *, wide: bool) -> Population:
    """A population of parameters from the corners; ``wide`` ones add up many large spikes."""
    size = _pick(rng, ((), shape[:1], shape))
    if wide:
        return PolarityMultiSpike(
            name=name,
            shape=shape,
            theta=rng.integers(1, 4, size),
            levels=(_pick(rng, (0, 32767)), 32767),
            gains=(_pick(rng, POSITIVE_GAINS), _pick(rng, NEGATIVE_GAINS)),
            rule=_pick(rng, ("bounded", "bounded", "carry")),
        )
    theta = rng.choice(THETAS, size) if rng.random() < 0.6 else 1 + _magnitude(rng, size, 1 << 22)
    return PolarityMultiSpike(
        name=name,
        shape=shape,
        theta=theta,
        bias=0 if rng.random() < 0.4 else _parameter(rng, shape, STATE_MAX),
        v_init=None if rng.random() < 0.5 else _parameter(rng, shape, STATE_MAX),
        levels=(_pick(rng, NEGATIVE_LEVELS), _pick(rng, POSITIVE_LEVELS)),
        gains=(_pick(rng, POSITIVE_GAINS), _pick(rng, NEGATIVE_GAINS)),
        rule=_pick(rng, RULES),
        overflow=_pick(rng, ("error", "error", "saturate")),
    )


def corner_weights(rng: Rng, projection: Projection) -> Projection:
    """The same projection with weights and an exponent from the corners."""
    shape = projection.weight.shape
    style = _pick(rng, ("as drawn", "ones", "signs", "ends", "one", "dead rows", "none"))
    weight = projection.weight.astype(np.int64)
    if style == "ones":
        weight = np.ones(shape, np.int64)
    elif style == "signs":
        weight = rng.integers(-1, 2, shape)
    elif style == "ends":
        weight = rng.choice([-128, -127, 127, 0], shape)
    elif style == "one":
        weight = np.zeros(shape, np.int64)
        weight.reshape(-1)[int(rng.integers(weight.size))] = _pick(rng, (1, -1, 127, -128))
    elif style == "dead rows" and weight.ndim > 0:
        weight[rng.random(len(weight)) < 0.5] = 0
    elif style == "none" and rng.random() < 0.3:
        weight = np.zeros(shape, np.int64)
    exponent = _pick(rng, (0, 0, 0, 1, 3, 6))
    return replace(projection, weight=weight, weight_exponent=exponent)


def corner_case(seed: int, *, most_steps: int = 4096) -> Case:
    """Make a valid case; equal seeds give equal cases."""
    rng = np.random.default_rng(seed)
    wide = rng.random() < 0.2
    steps = LONG_STEPS if wide or rng.random() < 0.05 else SHORT_STEPS
    n_steps = min(most_steps, _pick(rng, steps))
    n_samples = 1 if n_steps > 60 else int(rng.integers(1, 4))
    populations: list[Population] = []
    projections: list[Projection] = []

    def connect(projection: Projection) -> None:
        weight = projection.weight
        if wide and rng.random() < 0.7:
            ones = rng.integers(0, 2, weight.shape) if weight.ndim else np.int64(1)
            projections.append(replace(projection, weight=ones, weight_exponent=0))
        else:
            projections.append(corner_weights(rng, projection))

    for i in range(1 if rng.random() < 0.7 else 2):
        n_axes = int(rng.integers(1, 4))
        sizes = (2, 5) if n_steps <= 60 else (1, 4)
        shape = tuple(int(n) for n in (rng.integers(1, 4), *rng.integers(*sizes, n_axes - 1)))
        levels = (0, 32767) if wide and rng.random() < 0.7 else _pick(rng, INPUT_LEVELS)
        populations.append(Input(name=f"in{i}", shape=shape, levels=levels))
    for i in range(int(rng.integers(1, 3 if n_steps > 60 else 5))):
        name = f"layer{i}"
        source = populations[-1 if rng.random() < 0.7 else int(rng.integers(len(populations)))]
        first, shape = random_projection(rng, source, name, f"p{len(projections)}")
        connect(first)
        for other in populations:
            if rng.random() < 0.25:
                delay = _pick(rng, (0, 0, 1, n_steps - 1, n_steps, 4000))
                connect(random_join(rng, other, name, shape, f"p{len(projections)}", delay))
        populations.append(corner_neurons(rng, name, shape, wide=wide))
        if rng.random() < 0.2:  # back to itself, or to any layer before
            layers = [p for p in populations if isinstance(p, PolarityMultiSpike)]
            target = _pick(rng, layers)
            delay = len(populations) + int(rng.integers(0, 3))
            connect(
                random_join(
                    rng, layers[-1], target.name, target.shape, f"p{len(projections)}", delay
                )
            )
    for i in range(_pick(rng, (0, 1, 1, 1, 2))):
        source = _pick(rng, [p for p in populations if isinstance(p, PolarityMultiSpike)])
        projection, shape = random_projection(rng, source, f"out{i}", f"p{len(projections)}")
        connect(projection)
        bias = _parameter(rng, shape, _pick(rng, (0, 50, STATE_MAX)))
        populations.append(Readout(name=f"out{i}", shape=shape, scale=np.float64(0.5), bias=bias))
    max_steps = n_steps if rng.random() < 0.7 else min(most_steps, 4 * n_steps)
    network = _made_valid(rng, f"corner{seed}", populations, projections, max_steps)
    network = _with_modes(rng, network)
    others = np.random.default_rng((seed, 1))
    network = _shifted_and_delayed(others, network)
    units = {p.name: _frames(rng, p, n_samples, n_steps, wide=wide) for p in network.inputs}
    carry = n_samples > 1 and n_samples * n_steps <= max_steps and others.random() < 0.7
    return Case(seed=seed, network=network, units=units, n_steps=n_steps, carry=carry)


def _shifted_and_delayed(rng: Rng, network: Network) -> Network:
    """Other weight exponents where states still fit, and delays of synapses."""
    for i, projection in enumerate(network.projections):
        changes: dict[str, Any] = {}
        if rng.random() < 0.4:
            # chips send gains of two magnitudes as unit spikes of two formats: two sums
            gains = getattr(network[projection.source], "gains", (1, 1))
            right = (-8, -8, -5, -3, -1) if len(set(map(abs, gains))) == 1 else ()
            changes["weight_exponent"] = _pick(rng, (*right, 7))
        if isinstance(projection, Dense | Conv1d | Conv2d) and rng.random() < 0.4:
            shape = list(projection.weight.shape)
            if rng.random() < 0.4:  # one for all synapses of a source neuron
                shape = [1, shape[1], *(1 for _ in shape[2:])]
            longest = _pick(rng, (1, 2, 5, 62))
            drawn = rng.choice([0, longest, longest // 2], shape)
            changes["delays"] = np.broadcast_to(drawn, projection.weight.shape)
        changed = replace(projection, **changes)
        try:
            network = replace(
                network,
                projections=(*network.projections[:i], changed, *network.projections[i + 1 :]),
            )
        except NetworkError as error:
            if "the proof ends" not in error.problem and "state can reach" not in error.problem:
                raise
    return network


def _with_modes(rng: Rng, network: Network) -> Network:
    """Random spike modes; chips take gains of unit spikes that are powers of two, of any sign."""

    def possible(gain: int) -> bool:
        return abs(gain).bit_count() == 1

    populations: list[Any] = list(random_modes(rng, network).populations)
    for i, p in enumerate(populations):
        if isinstance(p, PolarityMultiSpike) and not all(map(possible, p.gains)):
            populations[i] = replace(p, spike_mode="graded")
    return replace(network, populations=tuple(populations))


def _frames(rng: Rng, population: Input, n_samples: int, n_steps: int, *, wide: bool) -> np.ndarray:
    """Inputs: static or one frame a step; of the whole range, or its ends and the middle only."""
    lo, hi = population.levels
    steps = () if rng.random() < 0.4 else (n_steps,)
    shape = (n_samples, *steps, *population.shape)
    if rng.random() < (0.8 if wide else 0.4):
        return rng.integers(lo, hi + 1, shape)
    return rng.choice([lo, hi, min(max(0, lo), hi)], shape)


def _made_valid(
    rng: Rng,
    name: str,
    populations: list[Population],
    projections: list[Projection],
    max_steps: int,
) -> Network:
    """Where a state may leave 24 bits, make its weights and bias small, or let it saturate."""
    tried: Counter[str] = Counter()
    while True:
        try:
            return Network(
                name=name, populations=tuple(populations), projections=tuple(projections),
                max_steps=max_steps,
            )  # fmt: skip
        except NetworkError as error:
            subject = error.subject.split("'")[1]
            if "is too short" in error.problem:  # the wave would come too late
                need: Any = error.limit
                for i, projection in enumerate(projections):
                    if projection.name == subject:
                        projections[i] = replace(projection, delay=need)
                continue
            if "the proof ends" not in error.problem and "state can reach" not in error.problem:
                raise
        tried[subject] += 1
        for i, population in enumerate(populations):
            changed: Any = population
            if population.name != subject:
                continue
            if tried[subject] == 1 and rng.random() < 0.7:
                start = {} if isinstance(population, Readout) else {"v_init": None}
                populations[i] = replace(changed, bias=rng.integers(-1, 2), **start)
            elif rng.random() < 0.6 or tried[subject] > 4:
                populations[i] = replace(changed, overflow="saturate")
        for i, projection in enumerate(projections):
            if subject in (projection.target, projection.name):
                weight = np.sign(projection.weight.astype(np.int64))
                if tried[subject] > 2 and weight.ndim > 0:
                    weight = weight * (rng.random(weight.shape) < 0.5)
                projections[i] = replace(projection, weight=weight, weight_exponent=0)


# -- engines --------------------------------------------------------------------------------------


@contextmanager
def engine(*, compiled: bool = False, least: type[Any] = np.float32) -> Iterator[None]:
    """The reference as for a large network, or in a wider type than it would choose."""
    order = [np.float32, np.float64, np.int64]
    choose = operators.exact_dtype

    def wider(bound: int) -> Any:
        return max(choose(bound), least, key=order.index)

    with ExitStack() as stack:
        if least is not np.float32:
            for module in (operators, polarity_multi_spike, readout):
                stack.enter_context(patch.object(module, "exact_dtype", wider))
        if compiled:
            stack.enter_context(patch.object(run_engine, "LARGE_UPDATES", 0))
            stack.enter_context(patch.object(components, "BLOCK_UPDATES", 7))
            stack.enter_context(patch.object(workers, "_n_threads", lambda: 3))
        yield


ENGINES: dict[str, dict[str, Any]] = {
    "plain": {},
    "compiled": {"compiled": True},
    "float64": {"least": np.float64},
    "compiled float64": {"compiled": True, "least": np.float64},
    "int64": {"least": np.int64},
}

Expected = tuple[Arrays, Arrays, dict[str, int]]


def assert_equal(case: Case, what: str, result: Any, expected: Expected) -> None:
    """Every spike, readout and saturation, or an error that names the seed."""
    spikes, states, saturations = expected
    where = f"seed {case.seed}, {what}"
    for population in case.network:
        name = population.name
        if isinstance(population, Readout):
            found, right = result.readouts[name], states[name]
        else:
            found, right = result.spikes[name], spikes[name]
        np.testing.assert_array_equal(found.reshape(right.shape), right, f"{where}, {name}")
    assert dict(result.saturations) == saturations, where


def check(case: Case) -> Expected:
    """Run a case by every engine but Lava; answer what is right."""
    network, n_steps = case.network, case.n_steps
    expected = oracle(network, case.units, n_steps, carry=case.carry)
    for name, k in expected[0].items():
        bound = network.bounds[name]
        assert bound.k_min <= k.min() <= k.max() <= bound.k_max, f"seed {case.seed}, {name}"
    for what, options in ENGINES.items():
        network.__dict__.pop("_prepared_layers", None)  # made for one engine
        with engine(**options):
            result = reference.run(network, case.units, n_steps, carry_state=case.carry)
        assert_equal(case, what, result, expected)
    network.__dict__.pop("_prepared_layers", None)
    unit = {p.name for p in network if getattr(p, "spike_mode", "") == "unit"}
    graded = {p.name for p in network if getattr(p, "spike_mode", "") == "auto"}
    if sum(int(np.abs(expected[0][name]).sum()) for name in unit) > MOST_MESSAGES:
        graded |= unit
    sending: list[Any] = [
        replace(p, spike_mode="graded") if p.name in graded else p  # type: ignore[call-arg]
        for p in network
    ]
    network = replace(network, populations=tuple(sending))
    rng = np.random.default_rng(case.seed)
    chip = edit_chip(random_chip(rng), limits__max_delay_steps=5000, limits__max_weight_exponent=16)
    mapping = random_mapping(rng, network, chip)
    counted, cycled = (
        emulate(network, mapping, case.units, n_steps, mode=mode, carry_state=case.carry)
        for mode in ("counts", "cycle")
    )
    assert_equal(case, "counts mode", counted, expected)
    assert_equal(case, "cycle mode", cycled, expected)
    assert counted.counts == cycled.counts, f"seed {case.seed}, counts"
    return expected


def check_lava(cases: list[tuple[Case, Expected]], granularity: Any = "coarse") -> None:
    """Run cases in one Lava process."""
    jobs = [
        lava.Job(network=c.network, x=c.units, n_steps=c.n_steps, carry_state=c.carry)
        for c, _ in cases
    ]
    results = lava.run_many(jobs, granularity=granularity, timeout_s=1800)
    for (case, expected), result in zip(cases, results, strict=True):
        assert_equal(case, f"Lava ({granularity})", result, expected)


def features(case: Case, expected: Expected) -> set[str]:
    """What a case covers, for the summary and a test."""
    found = set()
    spikes, _, saturations = expected
    for population in case.network:
        if isinstance(population, PolarityMultiSpike):
            k = spikes[population.name]
            into = case.network.into(population.name)
            found |= {f"rule {population.rule}", f"spikes {population.spike_mode}"}
            if (np.abs(k.sum(axis=1)) > 1 << 24).any() and population.rule == "bounded":
                found.add("a sum of spikes beyond 2**24")
            if population.gains[1] <= 0 and (k < -127).any():
                found.add("gain 0 or negative of many negative spikes")
            if (np.abs(k) >= 32767).any():
                found.add("a spike of 32,767 or more")
            if population.theta.max() >= 1 << 22 and k.any():
                found.add("theta of 2**22 or more")
            if population.theta.shape == population.shape and population.n_neurons > 1:
                found.add("theta per neuron")
            weights = [q.weight for q in into if q.weight.ndim > 1]
            if any((~w.reshape(len(w), -1).any(axis=1)).any() for w in weights):
                found.add("a dead row")
            if population.overflow == "error" and (np.abs(k) > 0).any():
                found.add("a proven state")
        if isinstance(population, Input) and case.units[population.name].ndim > 1 + len(
            population.shape
        ):
            found.add("a frame a step")
    found |= {q.kind for q in case.network.projections}
    found |= {"a sum shifted to the right" for q in case.network.projections
              if q.weight_exponent < 0}  # fmt: skip
    found |= {"delays of synapses" for q in case.network.projections if q.delays is not None}
    found |= {"state carried on"} if case.carry else set()
    found |= {"a cycle"} if case.network.is_recurrent else set()
    found |= {f"delay {'within' if q.delay < case.n_steps else 'beyond'} the sample"
              for q in case.network.projections if q.delay}  # fmt: skip
    found |= {"saturation"} if saturations else set()
    found |= {"4,096 steps"} if case.n_steps == 4096 else set()
    layers = run_engine.prepared(case.network, False, workers.Workers(1)).values()
    found |= {f"computed in {np.dtype(layer.dtype).name}" for layer in layers}
    case.network.__dict__.pop("_prepared_layers", None)
    return found


def main(arguments: list[str] | None = None) -> None:
    """Run cases; print a JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=500)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--lava", type=int, default=0, help="how many of them through Lava, too")
    given = parser.parse_args(arguments)
    start = time.perf_counter()
    covered: Counter[str] = Counter()
    kept: list[tuple[Case, Expected]] = []
    for seed in range(given.first, given.first + given.cases):
        case = corner_case(seed)
        try:
            expected = check(case)
        except Exception:
            sys.stderr.write(f"seed {seed} failed\n")
            raise
        covered.update(features(case, expected))
        if len(kept) < given.lava:
            kept.append((case, expected))
    for i in range(0, len(kept), 20):
        check_lava(kept[i : i + 20], "fine" if i // 20 % 5 == 1 else "coarse")
    result = {
        "cases": given.cases,
        "engines": [*ENGINES, "emulator counts", "emulator cycle"],
        "through_lava": len(kept),
        "covered": dict(sorted(covered.items())),
        "seconds": round(time.perf_counter() - start, 1),
    }
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()

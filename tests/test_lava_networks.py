"""Random networks through Lava: every spike equal to the reference, by real runs of Lava."""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Iterable

import numpy as np
import pytest

import pmsm_hw as p
from pmsm_hw import lava, reference

N_NETWORKS = 1000 if os.environ.get("PMSM_HW_HYPOTHESIS") == "long" else 200
CHUNK = 25


def random_network(seed: int) -> tuple[p.Network, dict[str, np.ndarray], int]:
    """A random network of all kinds of populations and projections, inputs, and T."""
    rng = np.random.default_rng(seed)
    n_steps = int(rng.integers(1, 5))
    pick = lambda *options: options[int(rng.integers(len(options)))]  # noqa: E731
    populations: list[p.Input | p.PolarityMultiSpike | p.Readout] = []
    projections: list[p.Conv1d | p.Conv2d | p.Dense | p.Identity | p.SumPool] = []

    def weights(*shape: int) -> np.ndarray:
        w = rng.integers(-128, 128, shape)
        if rng.random() < 0.3:
            w = w * (rng.random(shape) < 0.08)  # few enough for Lava's Sparse
        return w

    def neurons(name: str, shape: tuple[int, ...]) -> str:
        parameter = lambda lo, hi: rng.integers(  # noqa: E731
            lo, hi, pick((), (shape[0],), shape)
        )
        theta = parameter(1, pick(20, 400, 4000))
        saturates = rng.random() < 0.1
        populations.append(
            p.PolarityMultiSpike(
                name=name,
                shape=shape,
                theta=theta,
                levels=(int(rng.integers(0, 4)), int(rng.integers(1, 9))),
                bias=parameter(-(2**23), 2**23) if saturates else parameter(-60, 60),
                v_init=None if rng.random() < 0.6 else parameter(-50, 50),
                gains=pick((1, 1), (1, 1), (4, 1), (1, -1), (2, 0), (3, -5)),
                rule=pick("carry", "carry", "reset", "bounded"),
                spike_mode=pick("auto", "graded", "unit"),
                overflow="saturate" if saturates else "error",
            )
        )
        return name

    def window(name: str, source: p.Input | p.PolarityMultiSpike) -> p.PolarityMultiSpike | None:
        """A convolution or pooling of the source, with a population of the size it gives."""
        shape, nd = source.shape, len(source.shape) - 1
        sizes = lambda lo, hi: tuple(int(s) for s in rng.integers(lo, hi, nd))  # noqa: E731
        pads = tuple((int(a), int(b)) for a, b in rng.integers(0, 3, (nd, 2)))
        options = {"source": source.name, "target": name, "name": f"{source.name}>{name}"}
        if rng.random() < 0.25:
            projection = p.SumPool(
                kernel=sizes(1, 4), stride=sizes(1, 3), padding=pads,
                weight=rng.integers(-3, 4, pick((), (shape[0],))), **options,
            )  # fmt: skip
        else:
            groups = pick(*(g for g in (1, 1, 1, 2, 3, shape[0]) if shape[0] % g == 0))
            c_out = groups * int(rng.integers(1, 4))
            kind = p.Conv2d if nd == 2 else p.Conv1d
            projection = kind(
                weight=weights(c_out, shape[0] // groups, *sizes(1, 4)), stride=sizes(1, 3),
                padding=pads, dilation=sizes(1, 3), groups=groups,
                weight_exponent=int(rng.integers(0, 3)), **options,
            )  # fmt: skip
        try:
            target_shape = projection.output_shape(shape)
        except p.PmsmHwError:
            return None
        neurons(name, target_shape)
        projections.append(projection)
        return populations[-1]  # type: ignore[return-value]

    def dense(source: str, target: str, **options: object) -> None:
        by_name = {q.name: q for q in populations}
        n_post, n_pre = by_name[target].n_neurons, by_name[source].n_neurons
        projections.append(
            p.Dense(
                source=source, target=target, weight=weights(n_post, n_pre),
                weight_exponent=int(rng.integers(0, 4)),
                name=f"{source}>{target}>{len(projections)}",
                **options,  # type: ignore[arg-type]
            )
        )  # fmt: skip

    x = {}
    for i in range(pick(1, 1, 2)):
        shape = pick((6,), (2, 7), (3, 9), (1, 6, 5), (2, 5, 7), (3, 6, 6))
        lo, hi = pick((0, 15), (-7, 7), (0, 255))
        populations.append(p.Input(name=f"in{i}", shape=shape, levels=(lo, hi)))
        size = (int(rng.integers(1, 5)), *pick((), (n_steps,)), *shape) if i == 0 else None
        batch = size[0] if size else len(next(iter(x.values())))
        x[f"in{i}"] = rng.integers(lo, hi + 1, size or (batch, *shape))
    for i in range(int(rng.integers(1, 5))):
        source = populations[int(rng.integers(len(populations)))]
        name = f"p{i}"
        made = window(name, source) if len(source.shape) > 1 and rng.random() < 0.75 else None  # type: ignore[arg-type]
        if made is None:
            neurons(name, (int(rng.integers(2, 9)),))
            dense(source.name, name)
        target = populations[-1]
        for other in populations[:-1]:  # residual, skip and recurrent projections
            chance = rng.random()
            if chance < 0.15 and other.shape == target.shape:
                projections.append(
                    p.Identity(source=other.name, target=name, name=f"{other.name}={name}",
                               weight=rng.integers(-20, 21, pick((), (target.shape[0],))))
                )  # fmt: skip
            elif chance < 0.3:
                dense(other.name, name)
            elif chance < 0.4:
                dense(other.name, name, delay=int(rng.integers(1, 4)))
        if rng.random() < 0.2:
            dense(name, name, delay=int(rng.integers(1, 3)))
    inner = [q.name for q in populations if isinstance(q, p.PolarityMultiSpike)]
    for i in range(pick(0, 1, 1, 2)):
        populations.append(
            p.Readout(name=f"out{i}", shape=(3,), bias=rng.integers(-9, 9, 3), scale=rng.random(3))
        )
        dense(inner[int(rng.integers(len(inner)))], f"out{i}")
        if rng.random() < 0.3:
            dense(inner[0], f"out{i}", delay=4)
    if rng.random() < 0.2 and len(inner) > 1:  # a long way back
        dense(inner[-1], inner[0], delay=6)
    network = p.Network(
        name=f"seed {seed}", populations=tuple(populations), projections=tuple(projections),
        max_steps=4,
    )  # fmt: skip
    return network, x, n_steps


def possible(seeds: Iterable[int]) -> list[tuple[p.Network, dict[str, np.ndarray], int]]:
    """Those of the random networks whose state provably fits."""
    made = []
    for seed in seeds:
        with contextlib.suppress(p.PmsmHwError):
            made.append(random_network(seed))
    return made


# the same worker runs them whatever Python calls it: all of them once, on the Python of Lava
HERE = N_NETWORKS if importlib.util.find_spec("lava") else 2 * CHUNK


@pytest.mark.parametrize("first", range(0, HERE, CHUNK))
def test_random_networks_equal_the_reference(first: int, lava_python: None) -> None:
    cases: list[tuple[p.Network, dict[str, np.ndarray], int]] = []
    seeds = iter(range(10 * first, 10 * (first + CHUNK)))
    while len(cases) < CHUNK:
        cases += possible([next(seeds)])
    granularity = "fine" if first // CHUNK % 4 == 1 else "coarse"
    jobs = [lava.Job(network=network, x=x, n_steps=t) for network, x, t in cases]
    results = lava.run_many(jobs, granularity=granularity, timeout_s=300)
    for (network, x, t), result in zip(cases, results, strict=True):
        expected = reference.run(network, x, t)
        assert result.spikes.keys() == expected.spikes.keys()
        for name, spikes in expected.spikes.items():
            np.testing.assert_array_equal(result.spikes[name], spikes, f"{network.name}: {name}")
            assert result.spikes[name].dtype == spikes.dtype
        for name, state in expected.readouts.items():
            np.testing.assert_array_equal(result.readouts[name], state, f"{network.name}: {name}")
            np.testing.assert_array_equal(result.logits[name], expected.logits[name])
        assert result.saturations == expected.saturations, network.name


def test_the_random_networks_cover_what_there_is() -> None:
    cases = possible(range(400))
    networks = [network for network, _, _ in cases]
    neurons = [q for n in networks for q in n if isinstance(q, p.PolarityMultiSpike)]
    projections = [q for n in networks for q in n.projections]
    convolutions = [q for q in projections if isinstance(q, p.Conv2d)]
    assert len(networks) >= 200
    assert {q.kind for q in projections} == {"dense", "conv1d", "conv2d", "sum_pool", "identity"}
    assert {q.rule for q in neurons} == {"carry", "reset", "bounded"}
    assert {q.spike_mode for q in neurons} == {"auto", "graded", "unit"}
    assert {t for _, _, t in cases} == {1, 2, 3, 4}
    for what in ("stride", "dilation", "groups"):
        assert any(np.max(getattr(q, what)) > 1 for q in convolutions), what
    assert any(a != b for q in convolutions for a, b in q.padding)
    assert any(q.delay for q in projections)
    assert any(n.hardware_delay(q) > 1 for n in networks for q in n.projections)
    assert any(reference.run(n, x, t).saturations for n, x, t in cases[:200])
    fired = [
        np.abs(s).sum() > 0
        for n, x, t in cases[:100]
        for name, s in reference.run(n, x, t).spikes.items()
    ]
    assert np.mean(fired) > 0.6

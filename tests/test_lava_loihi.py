"""Loihi's own neurons in Lava: by our processes, and by Lava's own where those are right."""

from __future__ import annotations

import json
import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sigma_delta_networks
import silicon
from command_line import cli
from delayed_networks import delayed_network
from test_sigma_delta import random_chain

from pmsm_hw import CubaLif, Dense, Identity, Input, Network, io, lava, reference
from pmsm_hw.errors import InputError, LavaError
from pmsm_hw.lava.neurons import lavas_own
from pmsm_hw.lava.timing import timing_of
from pmsm_hw.network import AdaptiveLif, Delta, Neurons, PolarityMultiSpike, Readout, SigmaDelta

LONG = os.environ.get("PMSM_HW_HYPOTHESIS") == "long"


def states_of(network: Network) -> dict[str, tuple[str, ...]]:
    """All state variables, to probe."""
    return {p.name: tuple(p.model.start(p)) for p in network if isinstance(p, Neurons)}


def assert_equal(job: lava.Job, result: lava.LavaResult) -> None:
    """Spikes, readouts, states after each step, and what was counted."""
    expected = reference.run(
        job.network, job.x, job.n_steps, probes=job.probes, carry_state=job.carry_state
    )
    assert result.spikes.keys() == expected.spikes.keys()
    for name, spikes in expected.spikes.items():
        np.testing.assert_array_equal(result.spikes[name], spikes, name)
    for name, sums in expected.readouts.items():
        np.testing.assert_array_equal(result.readouts[name], sums, name)
        np.testing.assert_array_equal(result.logits[name], expected.logits[name], name)
    for name, states in expected.states.items():
        assert result.states[name].keys() == states.keys()
        for variable, values in states.items():
            np.testing.assert_array_equal(result.states[name][variable], values, name)
            assert result.states[name][variable].dtype == values.dtype
    assert result.saturations == expected.saturations


# -- delays, shifts, loops, carried states --------------------------------------------------------


def delayed_jobs(seeds: range) -> list[lava.Job]:
    """Random networks; every other one carries its state from sample to sample."""
    jobs = []
    for seed in seeds:
        rng = np.random.default_rng([seed, 7])
        network = delayed_network(seed)
        n_steps, n_samples = [(4, 3), (6, 2), (12, 1)][int(rng.integers(3))]
        x = {
            p.name: rng.integers(p.levels[0], p.levels[1] + 1, (n_samples, n_steps, *p.shape))
            for p in network.inputs
        }
        jobs.append(
            lava.Job(
                network=network, x=x, n_steps=n_steps, probes=states_of(network),
                carry_state=bool(seed % 2),
            )
        )  # fmt: skip
    return jobs


def polarities_job() -> lava.Job:
    """Unit spikes of both polarities, whose sum is 0 before it is shifted to the right."""
    network = Network(
        populations=(
            Input(name="x", shape=(2,), levels=(-9, 9)),
            PolarityMultiSpike(name="n", shape=(2,), theta=4, levels=(1, 1), spike_mode="unit"),
            Readout(name="out", shape=(1,)),
        ),
        projections=(
            Identity(source="x", target="n"),
            Dense(source="n", target="out", weight=[[1, 1]], weight_exponent=-1),
        ),
    )
    return lava.Job(network=network, x=[[9, -9], [9, -3], [-9, -3]], probes=states_of(network))


def saturating_job() -> lava.Job:
    """A bias alone takes each of six neurons out of its width, and a reset starts it again."""
    neurons = CubaLif(
        name="n", shape=(3, 2), vth=131071, bias=-4096, bias_exponent=7, reset_interval=20
    )
    network = Network(
        populations=(Input(name="x", shape=(2,)), neurons, Readout(name="out", shape=(3, 2))),
        projections=(
            Dense(source="x", target="n", weight=np.ones((6, 2), int)),
            Identity(source="n", target="out"),
        ),
        max_steps=24,
    )
    x = np.zeros((2, 24, 2), int)
    assert reference.run(network, x, 24).saturations == {"n": 60}
    return lava.Job(network=network, x=x, n_steps=24, probes=states_of(network))


@pytest.mark.parametrize("granularity", ["coarse", "fine"])
def test_delays_shifts_loops_and_carried_states(granularity: Any, lava_python: None) -> None:
    jobs = [*delayed_jobs(range(100 if LONG else 5)), polarities_job(), saturating_job()]
    projections = [q for job in jobs for q in job.network.projections]
    assert any(q.delays is not None and q.weight_exponent < 0 for q in projections)
    assert any(q.source == q.target for q in projections)
    for job, result in zip(
        jobs, lava.run_many(jobs, granularity=granularity, timeout_s=900), strict=True
    ):
        assert_equal(job, result)


# -- Lava's own processes -------------------------------------------------------------------------


def small_lif(seed: int) -> lava.Job:
    """Neurons that Lava's own have all of: small sums, samples, resets, biases, loops."""
    rng = np.random.default_rng([seed, 3])
    n_steps, n_samples = [(5, 3), (6, 1), (8, 2)][seed % 3]
    native = seed % 2

    def neurons(name: str, shape: tuple[int, ...]) -> CubaLif:
        return CubaLif(
            name=name, shape=shape, vth=int(rng.integers(0, 30)), du=int(rng.integers(0, 4096)),
            dv=int(rng.integers(0, 4097)), bias=rng.integers(-99, 900, shape),
            bias_exponent=int(rng.integers(0, 3)),
            reset_interval=n_steps if rng.random() < 0.3 else 0,
        )  # fmt: skip

    def dense(source: str, target: str, n_post: int, n_pre: int, delay: int) -> Dense:
        shape = (n_post, n_pre)
        return Dense(
            source=source, target=target, weight=rng.integers(-9, 30, shape), delay=delay,
            weight_exponent=int(rng.integers(-2, 2)),
            delays=rng.integers(0, 3, shape) if rng.random() < 0.5 else None,
        )  # fmt: skip

    network = Network(
        populations=(
            Input(name="x", shape=(4,), levels=(0, 3)),
            neurons("a", (4,)), neurons("b", (2, 3)),
        ),
        projections=(
            Identity(source="x", target="a", weight=np.int8(1 if native else 3)),
            dense("a", "b", 6, 4, native),
            dense("b", "b", 6, 6, 1),
            dense("x", "b", 6, 4, native),
        ),
        max_steps=2 * n_steps * n_samples,
    )  # fmt: skip
    x = rng.integers(0, 4, (n_samples, n_steps, 4))
    carry = seed % 5 == 1 and network["a"].reset_interval == network["b"].reset_interval == 0  # type: ignore[attr-defined]
    return lava.Job(
        network=network, x=x, n_steps=n_steps, probes=states_of(network), carry_state=carry
    )


def test_lavas_own_lif_on_random_networks(lava_python: None) -> None:
    jobs = [small_lif(seed) for seed in range(100 if LONG else 6)]
    stood: list[str] = []
    fired: list[bool] = []
    for job, result in zip(
        jobs, lava.run_many(jobs, granularity="fine", timeout_s=900), strict=True
    ):
        assert_equal(job, result)
        stood += result.processes.values()
        fired += [bool(result.spikes[name].any()) for name in result.processes]
    assert set(stood) == {"lava.proc.lif.process.LIF", "lava.proc.lif.process.LIFReset"}
    assert np.mean(fired) > 0.6


def recordings(shared_data: Any) -> list[silicon.Recording]:
    """What a Loihi 2 did; PilotNet, whose arrays are large, in the long profile."""
    folder = shared_data / "silicon"
    names = [name for name in silicon.RECORDINGS if LONG or name != "pilotnet"]
    return [silicon.RECORDINGS[name](folder) for name in names]


def sigma_delta_jobs(shared_data: Any) -> list[lava.Job]:
    """Sigma-delta networks, as published."""
    chains = [
        random_chain(),
        sigma_delta_networks.tinynet(shared_data / "silicon" / "tinynet_sdnn.npz"),
    ]
    if LONG:
        chains.append(sigma_delta_networks.pilotnet(shared_data / "netx" / "pilotnet_sdnn.net", 16))
    jobs = []
    for chain in chains:
        network, x = sigma_delta_networks.network_of(chain)
        jobs.append(lava.Job(network=network, x=x, n_steps=x.shape[1], probes=states_of(network)))
    return jobs


def test_lavas_own_processes_equal_the_chip_and_published_networks(
    shared_data: Any, lava_python: None
) -> None:
    chip = recordings(shared_data)
    published = sigma_delta_jobs(shared_data)
    jobs = [
        lava.Job(network=r.network, x=r.x, n_steps=r.n_steps,
                 probes={name: tuple(states) for name, states in r.states.items()})
        for r in chip
    ] + published  # fmt: skip
    results = lava.run_many(jobs, granularity="fine", neurons="lava", timeout_s=600)
    for result in results:
        assert all(title.startswith("lava.proc.") for title in result.processes.values())
    for recording, result in zip(chip, results, strict=False):
        found = recording.differences(dict(result.spikes), dict(result.states))
        print(f"\nof a Loihi 2, on {titles(result)}: differing values {found}")
        assert found == dict.fromkeys(found, 0)
    for job, result in zip(published, results[len(chip) :], strict=True):
        assert_equal(job, result)
        n = sum(values.size for states in result.states.values() for values in states.values())
        print(f"\npublished, on {titles(result)}: {n:,} states and all messages equal")


def titles(result: lava.LavaResult) -> str:
    """Names of the processes."""
    return ", ".join(title.rpartition(".")[2] for title in result.processes.values())


def test_what_leaves_the_range_in_which_lavas_own_are_right_is_an_error(lava_python: None) -> None:
    """A current that goes beyond 24 bits, which Lava would wrap wrongly."""
    network = Network(
        populations=(
            Input(name="x", shape=(1,), levels=(0, 600)),
            CubaLif(name="n", shape=(1,), vth=131071, du=0),
        ),
        projections=(Dense(source="x", target="n", weight=[[127]]),),
        max_steps=4,
    )
    with pytest.raises(
        LavaError,
        match=r"population 'n': \d+ values of Lava's LIF left 24 bits .*neurons='auto'",
    ):
        lava.run(network, np.array([[600]]), 4, granularity="fine", neurons="lava")


# -- which are right, without Lava ----------------------------------------------------------------


def one(neurons: Any, *, most: int = 1, n_before: int = 0) -> Network:
    """A population, behind so many others, whose biases make them fire."""
    populations: list[Any] = [Input(name="x", shape=(2,), levels=(-most, most))]
    populations += [CubaLif(name=f"before{i}", shape=(2,), vth=3, bias=9) for i in range(n_before)]
    populations.append(neurons)
    return Network(
        populations=populations,
        projections=[Identity(source=a.name, target=b.name) for a, b in pairwise(populations)],
        max_steps=12,
    )


def decided(network: Network, n_samples: int | None = 1, n_steps: int = 6, **carry: bool) -> Any:
    """Process of Lava's own for population n, None, or why there is none."""
    carry = {"carry_state": False} | carry
    timing = timing_of(network, "fine", n_steps, n_samples, **carry)
    auto = lavas_own(network, timing, "auto").get("n")
    try:
        forced = lavas_own(network, timing, "lava")["n"]
    except LavaError as error:
        assert auto is None
        return error.problem.removeprefix("Lava's own processes ")
    assert auto is None or auto.title == forced.title
    return auto if auto is not None else forced


def lif(**values: Any) -> CubaLif:
    """The population n."""
    given: dict[str, Any] = {"vth": 30, "du": 400, "dv": 90, **values}
    return CubaLif(name="n", shape=(2,), **given)


@pytest.mark.parametrize(
    ("neurons", "problem"),
    [
        (lif(refractory=2), "have no refractory steps in fixed point"),
        (lif(reset="subtract"), "reset v to zero only"),
        (lif(payload_mode="graded"), "send binary spikes only"),
        (lif(vth=[1, 2]), "have one vth for a population"),
        (lif(du=[1, 2]), "have one du for a population"),
        (AdaptiveLif(name="n", shape=(2,), vth=3), "have nothing for neuron model 'adaptive_lif'"),
        (PolarityMultiSpike(name="n", shape=(2,), theta=3, levels=(0, 1)), "have nothing for"),
        (Delta(name="n", shape=(2,), vth=[1, 2]), "have one vth for a population"),
        (SigmaDelta(name="n", shape=(2,), vth=1, variant="fixed_corrected"), "have no variant"),
        (Readout(name="n", shape=(2,), bias=3), r"have no bias in a sum \(Sigma\)"),
    ],
)
def test_what_lavas_own_lack_is_told(neurons: Any, problem: str) -> None:
    network = one(neurons)
    with pytest.raises(LavaError, match=rf"population 'n': Lava's own processes {problem}"):
        lavas_own(network, timing_of(network, "fine", 3, 1, carry_state=False), "lava")


def arguments(own: Any, *names: str) -> tuple[Any, ...]:
    return (own.process, *(own.arguments[name] for name in names))


def test_lavas_lif_starts_again_where_the_population_does() -> None:
    reset = "reset_interval", "reset_offset"
    assert arguments(decided(one(lif()))) == ("LIF",)
    assert arguments(decided(one(lif()), n_samples=2, carry_state=True)) == ("LIF",)
    # from the first step on, at depth 0, since the input is passed on as it is: Lava counts from 1
    assert arguments(decided(one(lif()), n_samples=2), *reset) == ("LIFReset", 6, 1)
    assert arguments(decided(one(lif()), n_samples=None), *reset) == ("LIFReset", 6, 1)
    assert arguments(decided(one(lif(reset_interval=4, reset_offset=6))), *reset) == (
        "LIFReset", 4, 3,
    )  # fmt: skip
    # at depth 2, behind neurons whose bias makes them fire before the first sample arrives
    assert arguments(decided(one(lif(), n_before=1)), *reset) == ("LIFReset", 6, 3)
    assert arguments(decided(one(lif(reset_interval=3), n_before=1), 2), *reset) == (
        "LIFReset", 3, 0,
    )  # fmt: skip
    behind = decided(one(lif(reset_interval=4, reset_offset=1), n_before=1))
    assert behind.startswith("reset every 4 steps, and cannot start again")
    assert decided(one(lif(reset_interval=4)), 2).startswith("reset every 4 steps")
    assert decided(one(Readout(name="n", shape=(2,)), n_before=1)).startswith("add up (Sigma)")
    assert decided(one(Delta(name="n", shape=(2,), vth=1)), 2).startswith("keep their state")


def test_what_is_not_proven_is_watched() -> None:
    assert not decided(one(lif(du=4095), most=1000)).limits
    watched = decided(one(lif(du=0, dv=0), most=20_000))
    added = 20_000 * 64
    assert watched.limits == {
        "u": (added - 2**23 + 1, 2**23 - 1 - added),
        "v": (-(2**23) + 2, 2**23 - 1),
    }
    assert "unseen" in decided(one(lif(), most=2**18))
    sigma = SigmaDelta(name="n", shape=(2,), vth=1, message_bits=8)
    assert not decided(one(sigma)).limits
    assert decided(one(sigma, most=1000)).limits == {"spikes": (-128, 127)}


def test_the_choice_of_processes_is_checked() -> None:
    network = one(lif())
    x = np.zeros((1, 6, 2), int)
    with pytest.raises(InputError, match="neurons 'lava' go with granularity 'fine'"):
        lava.run(network, x, 6, neurons="lava")
    with pytest.raises(InputError, match="neurons 'loihi' is not one of auto, own, lava"):
        lava.run(network, x, 6, neurons="loihi")  # type: ignore[arg-type]
    with pytest.raises(LavaError, match="reset v to zero only"):
        lava.run(one(lif(reset="subtract")), x, 6, granularity="fine", neurons="lava")
    with pytest.raises(InputError, match="no state"):
        lava.run(network, x, 6, probes={"n": ("w",)})
    with pytest.raises(InputError, match="state is carried on"):
        lava.run(network, np.zeros((3, 6, 2), int), 6, carry_state=True)


def test_the_command_says_which_processes_stood(tmp_path: Path, lava_python: None) -> None:
    network = one(lif())
    assert not lavas_own(network, timing_of(network, "fine", 6, 2, carry_state=True), "own")
    io.save(tmp_path / "n.h5", network)
    done = cli(
        "lava", "n.h5", "--data", "random", "--limit", 2, "--n-steps", 6, "--carry-state",
        "--neurons", "lava", "--json", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    values = json.loads(done.stdout)
    assert values["differing_spikes"] == 0
    assert values["processes"] == {"n": "lava.proc.lif.process.LIF"}
    done = cli(
        "lava", "n.h5", "--data", "random", "--granularity", "coarse", "--neurons", "lava",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 2
    assert "--granularity fine" in done.stderr

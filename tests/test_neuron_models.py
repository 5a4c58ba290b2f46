"""Every registered neuron model on every backend, against its own step in plain numpy."""

from __future__ import annotations

import os
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st
from neuron_cases import Case, cases, plainly
from numpy.typing import ArrayLike, NDArray

from pmsm_hw import io, lava, operators, reference, workers
from pmsm_hw.emulator import emulate
from pmsm_hw.emulator.layout.neurons import FUSED
from pmsm_hw.errors import FormatError, MappingError, NetworkError, NeuronModelError
from pmsm_hw.io.nir_neurons import NIR
from pmsm_hw.lava.neurons import LAVA
from pmsm_hw.mapping import load_chip, map_network
from pmsm_hw.network import Dense, Input, Network
from pmsm_hw.neurons import (
    Backend,
    IntervalStep,
    NeuronModel,
    Neurons,
    Parameter,
    StateVariable,
    Step,
    models,
    register,
    unregister,
)
from pmsm_hw.records import Given, default, record
from pmsm_hw.reference import components, engine

# -- a model of our own ---------------------------------------------------------------------------

U = StateVariable(name="u", meaning="current", beyond="wrap")
V = StateVariable(name="v", meaning="voltage", beyond="saturate", low=-(2**23 - 1))


def decayed(x: Any, decay: Any) -> Any:
    """Towards zero, of 12 bits."""
    return np.sign(x) * ((np.abs(x) * (4096 - decay)) >> 12)


def leaky_start(p: Any) -> dict[str, Any]:
    zeros = np.zeros_like(p.threshold)
    return {"u": zeros, "v": zeros}


def leaky_step(p: Any, state: Any, drive: Any, t: int) -> Step:
    u, wrapped = U.hold(decayed(state["u"], p.current_decay) + drive)
    wanted = decayed(state["v"], p.voltage_decay) + u + p.bias
    v, clipped = V.hold(wanted)
    fired = v > p.threshold
    after = np.where(fired, v - p.threshold if p.reset == "soft" else 0, v)
    return Step(
        state={"u": u, "v": after},
        u=wanted,
        spikes=fired.astype(np.int64),
        active=(drive != 0) | (u != 0) | fired,
        outside=wrapped + clipped,
    )


def leaky_interval(p: Any, state: Any, drive: Any, t: int) -> IntervalStep:
    current = U.hold_interval(
        tuple(decayed(s, p.current_decay) + d for s, d in zip(state["u"], drive, strict=True))
    )
    reached = tuple(
        decayed(s, p.voltage_decay) + u + p.bias for s, u in zip(state["v"], current, strict=True)
    )
    low, high = V.hold_interval(reached)
    left = high - p.threshold if p.reset == "soft" else 0
    after = np.minimum(low, 0), np.maximum(np.minimum(high, p.threshold), left)
    spikes = (low > p.threshold).astype(np.int64), (high > p.threshold).astype(np.int64)
    return IntervalStep({"u": current, "v": after}, reached, spikes)


@record
class Leaky(Neurons):
    """Leaky integrate-and-fire with a current and a voltage, as on Loihi, payloads by channel."""

    threshold: Given[ArrayLike, NDArray[np.int64]]
    current_decay: Given[ArrayLike, NDArray[np.int64]] = default(lambda: 0)
    voltage_decay: Given[ArrayLike, NDArray[np.int64]] = default(lambda: 0)
    bias: Given[ArrayLike, NDArray[np.int64]] = default(lambda: 0)
    strength: int = 1
    reset: str = "zero"

    kind: ClassVar[str] = "test_leaky"
    model: ClassVar[NeuronModel] = NeuronModel(
        equations=("u = dec(u) + drive", "v = dec(v) + u + bias", "k = v > threshold"),
        parameters=(
            Parameter(name="threshold", meaning="threshold", per="neuron", high=2**23 - 1),
            Parameter(name="current_decay", meaning="of u", per="channel", high=4096),
            Parameter(name="voltage_decay", meaning="of v", per="channel", high=4096),
            Parameter(
                name="bias", meaning="added to v", per="neuron", low=-(2**23), high=2**23 - 1
            ),
            Parameter(name="strength", meaning="payload", low=1, high=2**15),
            Parameter(name="reset", meaning="of v", type="choice", choices=("zero", "soft")),
        ),
        states=(U, V),
        start=leaky_start,
        step=leaky_step,
        interval_step=leaky_interval,
        spike_range=lambda p, n_steps: (0, 1),
        payload=lambda p, k: k * p.strength,
        core_parameters=("threshold", "current_decay", "voltage_decay"),
    )


@pytest.fixture(autouse=True)
def _own_model():
    register(Leaky)
    yield
    unregister(Leaky)


KINDS = [*models(), Leaky.kind]


def model_of(kind: str) -> type[Neurons]:
    return Leaky if kind == Leaky.kind else models()[kind]


every_model = pytest.mark.parametrize("kind", KINDS)


# -- the declaration itself -----------------------------------------------------------------------


def any_case(kind: str) -> st.SearchStrategy[Case]:
    """Cases of a model, with shifts to the right and delays of synapses in half of them."""
    return st.booleans().flatmap(lambda both: cases(model_of(kind), shifts_and_delays=both))


@every_model
@given(data=st.data())
def test_step_keeps_states_within_their_width_and_spikes_within_their_range(kind, data):
    case = data.draw(any_case(kind))
    network, done = case.network, plainly(case)["n"]
    population: Any = network["n"]
    limits = {variable.name: variable.limits for variable in population.model.states}
    assert done.states.keys() <= limits.keys()
    for name, values in done.states.items():
        low, high = limits[name]
        assert low <= values.min() <= values.max() <= high
    low, high = population.model.spike_range(population, case.n_steps)
    assert low <= done.spikes.min() <= done.spikes.max() <= high


@every_model
@given(data=st.data())
def test_bounds_by_the_interval_step_hold_what_the_step_reaches(kind, data):
    case = data.draw(any_case(kind))
    network, done = case.network, plainly(case)["n"]
    bound = network.bounds["n"]
    assert bound.u_min <= done.u.min() <= done.u.max() <= bound.u_max
    assert bound.k_min <= done.spikes.min() <= done.spikes.max() <= bound.k_max
    payload = network["n"].payload(done.spikes)  # type: ignore[attr-defined]
    assert bound.payload_min <= payload.min() <= payload.max() <= bound.payload_max


@every_model
@given(data=st.data(), n_steps=st.integers(1, 9))
def test_bounds_by_a_formula_are_those_of_the_interval_step(kind, data, n_steps):
    population: Any = data.draw(cases(model_of(kind))).network["n"]
    model = population.model
    low = data.draw(st.integers(-(2**20), 2**20))
    drive = np.array(low), np.array(low + data.draw(st.integers(0, 2**20)))
    state = {name: (value, value) for name, value in model.start(population).items()}
    steps = []
    for t in range(n_steps):
        steps.append(model.interval_step(population, state, drive, t))
        state = steps[-1].state
    if model.interval_steps is not None:
        at_once = model.interval_steps(population, drive, n_steps)
        for what in ("u", "spikes"):
            ends = [getattr(step, what) for step in steps]
            assert getattr(at_once, what)[0].min() == min(low.min() for low, _ in ends)
            assert getattr(at_once, what)[1].max() == max(high.max() for _, high in ends)


@every_model
@given(data=st.data())
def test_payload_is_monotonic_and_that_of_unit_spikes_adds_up(kind, data):
    population: Any = data.draw(cases(model_of(kind))).network["n"]
    low, high = population.model.spike_range(population, 4)
    k = np.arange(max(low, -50), min(high, 50) + 1)
    payload = population.payload(k)
    assert payload[k == 0].tolist() in ([0], [])
    unit = population.payload(np.sign(k))
    np.testing.assert_array_equal(payload, np.abs(k) * unit)


# -- backends -------------------------------------------------------------------------------------


def assert_reference(case: Case, done: Any) -> None:
    units = reference.units_of(case.network, case.units, case.n_steps)
    for activity in reference.simulate(case.network, units, case.n_steps):
        if activity.name == "x":
            continue
        mine = done[activity.name]
        np.testing.assert_array_equal(activity.spikes, mine.spikes)
        np.testing.assert_array_equal(activity.active, mine.active)
        assert activity.states.keys() == mine.states.keys()
        for name, values in activity.states.items():
            np.testing.assert_array_equal(values, mine.states[name])
        assert activity.saturations == mine.outside


def assert_both_references(case: Case, done: Any) -> None:
    assert_reference(case, done)
    case.network.__dict__.pop("_prepared_layers", None)  # made for one way to run
    with pytest.MonkeyPatch.context() as patch:  # as if it were large: compiled, in small blocks
        patch.setattr(engine, "LARGE_UPDATES", 0)
        patch.setattr(components, "BLOCK_UPDATES", 7)
        patch.setattr(operators, "_BLOCK_VALUES", 50)
        patch.setattr(workers, "_n_threads", lambda: 2)
        assert_reference(case, done)


@every_model
@given(data=st.data())
def test_reference(kind, data):
    case = data.draw(any_case(kind))
    assert_both_references(case, plainly(case))


BY_HAND = {
    "carry": ([[1, 1, 1, 1], [0, 0, 1, -1], [-1, 1, 0, -1]], (-765, 775), (-1, 1)),
    "reset": ([[1, 1, 1, 1], [0, 0, 1, -1], [-1, 1, 0, -1]], (-195, 205), (-1, 1)),
    "bounded": ([[1, 1, 1, 1], [0, 0, 3, -7], [-1, 1, 0, -4]], (-765, 775), (-7, 3)),
}
"""Spikes of each sample below; what bounds of states and spikes hold at least."""


@pytest.mark.parametrize("rule", BY_HAND)
def test_polarity_spikes_that_are_owed_or_saved_up(rule):
    """Drives of ten thresholds and more: levels cut spikes off, what is left stays or goes."""
    spikes, (u_min, u_max), (k_min, k_max) = BY_HAND[rule]
    units = np.array([[2, 2, 2, 2], [0, 0, 1, -2], [-1, 1, 0, -1]])
    model: Any = models()["polarity_multi_spike"]
    network = Network(
        populations=(
            Input(name="x", shape=(1,), levels=(-2, 2)),
            model(name="n", shape=(2,), theta=10, levels=(1, 1), rule=rule),
        ),
        projections=(Dense(source="x", target="n", weight=[[100], [-100]]),),
        max_steps=4,
    )
    case = Case(network, units[:, :, None], 4)
    done = plainly(case)
    assert done["n"].spikes[:, :, 0].tolist() == spikes
    bound = network.bounds["n"]
    assert bound.u_min <= u_min < u_max <= bound.u_max
    assert bound.k_min <= k_min < k_max <= bound.k_max
    assert done["n"].u.max() == u_max
    assert_both_references(case, done)
    mapping = map_network(network, load_chip("loihi2"))
    for mode in ("counts", "cycle"):
        report = emulate(network, mapping, case.units, 4, mode=mode)
        np.testing.assert_array_equal(report.spikes["n"], done["n"].spikes)


@pytest.mark.parametrize("rule", ["carry", "bounded"])
def test_bounds_hold_what_stays_below_the_threshold(rule):
    """5 + 4 stay, 12 more make 21; of 5 + 12, the most in one step, less than 9 would stay."""
    model: Any = models()["polarity_multi_spike"]
    network = Network(
        populations=(
            Input(name="x", shape=(1,), levels=(-3, 3)),
            model(name="n", shape=(1,), theta=10, levels=(3, 3), rule=rule),
        ),
        projections=(Dense(source="x", target="n", weight=[[4]]),),
        max_steps=2,
    )
    done = plainly(Case(network, np.array([[[1], [3]]]), 2))["n"]
    assert (done.u.reshape(-1).tolist(), done.spikes.reshape(-1).tolist()) == ([9, 21], [0, 2])
    assert network.bounds["n"].u_max == 21


def placed(network: Network, chip: Any) -> Any:
    """A mapping; cases with exponents, gains or delays that the chip does not have are left out."""
    try:
        return map_network(network, chip, seed=0)
    except MappingError:
        assume(False)


few = settings(max_examples=max(settings().max_examples // 3, 1))
"""Of examples that map a network."""


@every_model
@few
@given(data=st.data())
def test_emulator_counts_and_cycle(kind, data):
    chip = load_chip(data.draw(st.sampled_from(["loihi1", "loihi2"])))
    case = data.draw(any_case(kind))
    network, done = case.network, plainly(case)
    mapping = placed(network, chip)
    sent = {"x": case.units} | {name: mine.spikes for name, mine in done.items()}
    units = (k for name, k in sent.items() if mapping.spike_mode(name) == "unit")
    assume(sum(int(np.abs(k).sum()) for k in units) < 20_000)
    reports = {
        mode: emulate(network, mapping, case.units, case.n_steps, mode=mode)
        for mode in ("counts", "cycle")
    }
    assert reports["counts"].counts == reports["cycle"].counts
    for report in reports.values():
        answers = {"spikes": report.spikes, "readouts": report.readouts}
        for name, mine in done.items():
            if network[name].fires:  # type: ignore[attr-defined]
                np.testing.assert_array_equal(answers["spikes"][name], mine.spikes)
            else:
                np.testing.assert_array_equal(answers["readouts"][name], mine.states["v"])
        counts = report.counts.total()
        updates = sum(d.active.sum() * network[n].model.compartments for n, d in done.items())  # type: ignore[attr-defined]
        assert counts["neuron_updates_active"] == updates
        assert counts["neurons_fired"] == sum(np.count_nonzero(d.spikes) for d in done.values())
        outside = {name: d.outside for name, d in done.items() if d.outside}
        assert report.counts.saturated() == outside


@pytest.mark.parametrize("kind", FUSED.kinds)
@few
@given(data=st.data())
def test_the_compiled_loop_of_cycle_mode_equals_stepping_outside_of_it(kind, data):
    case = data.draw(any_case(kind))
    assume(int(np.abs(case.units).sum()) < 20_000)
    mapping = placed(case.network, load_chip("loihi2"))
    reports = [emulate(case.network, mapping, case.units, case.n_steps, mode="cycle")]
    found = FUSED.find(case.network["n"])
    assert found is not None
    FUSED.unregister(kind)
    try:
        reports.append(emulate(case.network, mapping, case.units, case.n_steps, mode="cycle"))
    finally:
        FUSED.register(kind, found)
    a, b = reports
    assert a.to_dict() == b.to_dict()
    for name, spikes in a.spikes.items():
        np.testing.assert_array_equal(spikes, b.spikes[name])
    for name, state in a.readouts.items():
        np.testing.assert_array_equal(state, b.readouts[name])


@every_model
@few
@given(data=st.data())
def test_files(kind, data, tmp_path_factory):
    case = data.draw(any_case(kind))
    path = tmp_path_factory.mktemp("files") / "n.h5"
    io.save(path, case.network)
    again = io.load(path)
    assert again == case.network
    assert again.fingerprint == case.network.fingerprint
    assert again.bounds == case.network.bounds


@every_model
@given(data=st.data())
def test_nir_files(kind, data, tmp_path_factory):
    pytest.importorskip("nir", reason="needs the nir package: pip install 'pmsm-hw[nir]'")
    case = data.draw(any_case(kind))
    path = tmp_path_factory.mktemp("files") / "n.nir"
    if kind not in NIR.kinds:
        with pytest.raises(FormatError, match=f"NIR has nothing for neuron model '{kind}'"):
            io.save_nir(path, case.network)
        return
    io.save_nir(path, case.network)
    assert io.load_nir(path) == case.network


# -- what is missing or wrong is an error ---------------------------------------------------------


def test_a_missing_implementation_names_backend_and_model():
    backend: Backend[int] = Backend("the abacus", "register one")
    backend.register("readout", 1)
    with pytest.raises(NeuronModelError, match=r"the abacus has nothing for neuron model 'test_"):
        backend.of(Leaky(name="n", shape=(1,), threshold=3))


def test_a_kind_is_registered_once():
    with pytest.raises(NeuronModelError, match="is known already"):
        register(Leaky)


def test_fields_and_declared_parameters_must_agree():
    @record
    class Forgetful(Leaky):
        more: int = 0
        kind: ClassVar[str] = "test_forgetful"

    with pytest.raises(NeuronModelError, match="declare each field"):
        register(Forgetful)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"threshold": -1}, r"threshold lies in \[-1, -1\], the limits are 0 and 8,388,607"),
        ({"current_decay": [1, 2, 3]}, r"current_decay has shape \(3,\), the population takes"),
        ({"current_decay": np.ones((2, 3), int)}, "per population or channel"),
        ({"strength": 0}, "strength 0 is outside 1"),
        ({"reset": "never"}, "reset 'never' is not one of zero, soft"),
        ({"bias": 0.5}, "bias"),
    ],
)
def test_declared_ranges_are_checked(changes: dict[str, Any], message: str):
    values: dict[str, Any] = {"threshold": 4} | changes
    with pytest.raises(NetworkError, match=message):
        Leaky(name="n", shape=(2, 3), **values)


def test_a_new_parameter_with_a_default_changes_no_fingerprint():
    """The digest leaves out what has its default: stored mappings stay those of their network."""

    def fingerprint(model: type[Neurons], **more: Any) -> str:
        register(model)
        try:
            population = model(name="n", shape=(2,), threshold=3, **more)  # type: ignore[call-arg]
            return Network(populations=(population,), projections=()).fingerprint
        finally:
            unregister(model)

    @record
    class Later(Leaky):
        refractory: int = 1
        model: ClassVar[NeuronModel] = NeuronModel(
            **{name: getattr(Leaky.model, name) for name in Leaky.model.__dataclass_fields__}
            | {
                "parameters": (
                    *Leaky.model.parameters,
                    Parameter(name="refractory", meaning="steps", low=1, high=64),
                )
            }
        )

    unregister(Leaky)
    before = fingerprint(Leaky)
    assert fingerprint(Later) == before
    assert fingerprint(Later, refractory=2) != before
    register(Leaky)


# -- Lava -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("granularity", ["coarse", "fine"])
def test_lava(granularity, lava_python):
    """Every model that Lava has something for; a long list of cases in one child."""
    small: list[Case] = []
    for kind in LAVA.kinds:
        some: list[Case] = []

        @settings(max_examples=N_LAVA, database=None, phases=[Phase.generate])
        @given(data=st.data())
        def collect(data):
            some.append(data.draw(any_case(kind)))  # noqa: B023 - called at once

        collect()
        small += [case for case in some if _fits_lava(case, granularity)][:N_LAVA]
    jobs = [lava.Job(network=c.network, x=c.units, n_steps=c.n_steps) for c in small]
    results = lava.run_many(jobs, granularity=granularity, timeout_s=600)
    for case, result in zip(small, results, strict=True):
        for name, mine in plainly(case).items():
            if case.network[name].fires:  # type: ignore[attr-defined]
                np.testing.assert_array_equal(result.spikes[name], mine.spikes)
            else:
                np.testing.assert_array_equal(result.readouts[name], mine.states["v"])
            assert result.saturations.get(name, 0) == mine.outside


N_LAVA = 200 if os.environ.get("PMSM_HW_HYPOTHESIS") == "long" else 5


def _fits_lava(case: Case, granularity: str) -> bool:
    """Messages of Lava's own synapses are 24 bits wide."""
    largest = max(
        max(-bound.payload_min, bound.payload_max) for bound in case.network.bounds.values()
    )
    return largest < 1 << 23


def test_a_model_that_lava_lacks_is_refused_before_anything_runs():
    network = Network(populations=(Leaky(name="n", shape=(1,), threshold=3),), projections=())
    with pytest.raises(
        NeuronModelError, match=r"population 'n': Lava has nothing for neuron model 'test_leaky'"
    ):
        lava.run(network, {})

"""Fast paths of the reference (compiled, threaded, blocked, chunked): each equals the plain one."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from quick import LONG
from random_networks import random_network, random_units, with_delays

from pmsm_hw import operators, reference, workers
from pmsm_hw.datasets import load_digits
from pmsm_hw.errors import InputError
from pmsm_hw.network import (
    STATE_MAX,
    STATE_MIN,
    Conv2d,
    Dense,
    Identity,
    Input,
    Network,
    PolarityMultiSpike,
    Readout,
    SumPool,
)
from pmsm_hw.neurons.codes import RULE_CODES
from pmsm_hw.operators import DenseForm, Operator, WindowForm
from pmsm_hw.reference import components, engine, kernels


def assert_same(a, b):
    for x, y in ((a.spikes, b.spikes), (a.readouts, b.readouts), (a.logits, b.logits)):
        assert x.keys() == y.keys()
        for name, values in x.items():
            np.testing.assert_array_equal(values, y[name], err_msg=name)
            assert values.dtype == y[name].dtype
    assert a.saturations == b.saturations


def activities(network, units, n_steps):
    return {a.name: a for a in reference.simulate(network, units, n_steps)}


@pytest.fixture(scope="module")
def fast():
    """Run something as if it were large: compiled, on three threads, in small blocks."""

    def call(function, *arguments, **named):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(engine, "LARGE_UPDATES", 0)
            patch.setattr(components, "BLOCK_UPDATES", 7)
            patch.setattr(operators, "_BLOCK_VALUES", 50)
            patch.setattr(workers, "_n_threads", lambda: 3)
            return function(*arguments, **named)

    return call


@given(seed=st.integers(0, 10**6), n_steps=st.integers(1, 4))
def test_compiled_threaded_blocks_equal_the_plain_arithmetic(fast, seed, n_steps):
    network = random_network(seed)
    if seed % 2:
        network = with_delays(network, seed)
    units = reference.units_of(
        network, random_units(network, seed, n_samples=5, n_steps=n_steps), n_steps
    )
    plain = activities(network, units, n_steps)
    for name, activity in fast(activities, network, units, n_steps).items():
        np.testing.assert_array_equal(activity.spikes, plain[name].spikes, err_msg=name)
        np.testing.assert_array_equal(activity.active, plain[name].active, err_msg=name)
        np.testing.assert_array_equal(activity.state, plain[name].state, err_msg=name)
        assert activity.counts() == (
            np.count_nonzero(activity.spikes),
            np.abs(activity.spikes).sum(),
        )


@given(seed=st.integers(0, 10**6), rule=st.sampled_from(["carry", "reset", "bounded"]))
def test_saturating_networks_too(fast, seed, rule):
    rng = np.random.default_rng(seed)
    network = Network(
        max_steps=4,
        populations=(
            Input(name="in", shape=(5, 3, 2), levels=(-32768, 32767)),
            PolarityMultiSpike(
                name="n",
                shape=(4, 3, 2),
                theta=rng.integers(1, STATE_MAX, 4),
                levels=(3, 2),
                bias=rng.integers(-(2**20), 2**20, (4, 3, 2)),
                rule=rule,
                overflow="saturate",
            ),
            Readout(name="out", shape=(4, 3, 2), overflow="saturate"),
        ),
        projections=(
            Conv2d(
                source="in",
                target="n",
                weight=rng.integers(-128, 128, (4, 5, 1, 1)),
                weight_exponent=int(rng.integers(0, 7)),
            ),
            Identity(source="n", target="out", weight=np.int8(127), weight_exponent=6),
        ),
    )
    x = rng.integers(-32768, 32768, (6, 4, 5, 3, 2))
    plain = reference.run(network, x, 4)
    assert_same(fast(reference.run, network, x, 4), plain)
    # and both equal the equations in Python integers
    drive = np.einsum(
        "oi,btiyx->btoyx", network.projections[0].weight[..., 0, 0].astype(object), x.astype(object)
    ) * 2 ** network.projections[0].weight_exponent  # fmt: skip
    n = network["n"]
    theta, bias, start = (a.astype(object) for a in (n.theta, n.bias, n.start))
    v, sent, clipped = np.broadcast_to(start, (6, 4, 3, 2)), 0, 0
    for t in range(4):
        u = v + drive[:, t] + bias
        inside = np.clip(u, STATE_MIN, STATE_MAX)
        clipped += int((inside != u).sum())
        low, high = -3, 2
        if rule == "bounded":
            low, high = -3 * (t + 1) - sent, 2 * (t + 1) - sent
        k = np.minimum(np.maximum(inside // theta, low), high)
        sent = sent + k
        v = np.broadcast_to(start, (6, 4, 3, 2)) if rule == "reset" else inside - k * theta
        np.testing.assert_array_equal(plain.spikes["n"][:, t], k.astype(int))
    assert plain.saturations.get("n", 0) == clipped


@given(
    theta=st.one_of(st.integers(1, 5000), st.integers(1, STATE_MAX)),
    quotients=st.lists(st.integers(-(2**23), 2**23), min_size=1, max_size=20),
    offset=st.integers(-2, 2),
)
def test_division_in_float32_is_floor_division(theta, quotients, offset):
    u = np.array(quotients, np.int64) // theta * theta + offset  # at and beside multiples
    u = u[(u >= STATE_MIN) & (u <= STATE_MAX)]
    quotient = np.floor(u.astype(np.float32) / np.float32(theta))
    np.testing.assert_array_equal(quotient.astype(np.int64), u // theta)


def test_division_in_float32_at_every_multiple_of_some_thresholds():
    for theta in (7, 641, 4095, 65537, STATE_MAX):
        multiple = np.arange(STATE_MIN // theta, STATE_MAX // theta + 1, dtype=np.int64) * theta
        for offset in (-1, 0, 1):
            u = multiple + offset
            u = u[(u >= STATE_MIN) & (u <= STATE_MAX)]
            quotient = np.floor(u.astype(np.float32) / np.float32(theta))
            np.testing.assert_array_equal(quotient.astype(np.int64), u // theta)


def updated(u, theta, dtype, rule, levels=(1 << 23, 1 << 23), k_type=np.int32):
    """Spikes, states and activity of one compiled step whose ``u`` are given."""
    n = len(u)
    drive = u.astype(dtype).reshape(1, 1, 1, n)
    v, zeros = np.full((1, 1, n), np.nan, dtype), np.zeros((1, n), dtype)
    k, active = np.zeros((1, 1, 1, n), k_type), np.zeros((1, 1, 1, n), np.bool_)
    theta = np.broadcast_to(np.asarray(theta, dtype), (1, n)).copy()
    low, high = (dtype(level) for level in levels)
    saturated = kernels.advance(
        drive, v, np.zeros((0, 0, 0), dtype), theta, zeros, zeros, low, high,
        RULE_CODES[rule], False, 0, k, active,
    )  # fmt: skip
    assert saturated == 0
    return k.reshape(n), v.reshape(n), active.reshape(n)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_compiled_update_at_every_multiple_of_some_thresholds(dtype):
    """It multiplies by the inverse of theta: never off by one, at both ends of the state too.

    Of thresholds with millions of multiples, the quick profile takes the ends and some between.
    """
    for theta in (1, 2, 3, 7, 49, 641, 4095, 65537, 5_592_405, STATE_MAX - 1, STATE_MAX):
        multiple = np.arange(STATE_MIN // theta, STATE_MAX // theta + 1, dtype=np.int64) * theta
        if not LONG and len(multiple) > 3 << 18:
            some = np.random.default_rng(theta).choice(multiple, 1 << 18)
            multiple = np.concatenate([multiple[: 1 << 18], some, multiple[-(1 << 18) :]])
        for offset in (-1, 0, 1):
            u = multiple + offset
            u = u[(u >= STATE_MIN) & (u <= STATE_MAX)]
            k, v, active = updated(u, theta, dtype, "carry")
            np.testing.assert_array_equal(k, u // theta)
            np.testing.assert_array_equal(v, u % theta)
            np.testing.assert_array_equal(active, u != 0)


@given(
    seed=st.integers(0, 2**32),
    n=st.integers(1, 70),
    levels=st.tuples(st.integers(0, 100), st.integers(1, 100)),
    dtype=st.sampled_from([np.float32, np.float64]),
    rule=st.sampled_from(["carry", "reset"]),
    k_type=st.sampled_from([np.int8, np.int16, np.int32, np.int64]),
)
def test_compiled_update_of_any_length_and_type(seed, n, levels, dtype, rule, k_type):
    rng = np.random.default_rng(seed)
    theta = rng.integers(1, 1 << rng.integers(1, 24), n)
    u = np.clip(rng.integers(-120, 120, n) * theta + rng.integers(-1, 2, n), STATE_MIN, STATE_MAX)
    k, v, active = updated(u, theta, dtype, rule, levels, k_type)
    expected = np.clip(u // theta, -levels[0], levels[1])
    np.testing.assert_array_equal(k, expected)
    np.testing.assert_array_equal(v, 0 if rule == "reset" else u - expected * theta)
    np.testing.assert_array_equal(active, (u != 0) | (expected != 0))


@pytest.mark.parametrize(
    ("payload_max", "dtype"),
    [(100, np.float32), (2**16, np.float64), (2**46, np.int64)],
)
def test_type_follows_the_bound_and_sums_are_exact(payload_max, dtype):
    rng = np.random.default_rng(0)
    weight = rng.integers(-128, 128, (3, 4, 3, 3)).astype(np.int8)
    weight[0] = -128  # the worst case
    form = WindowForm(weight, (2, 1), ((1, 0), (0, 2)), (1, 2), 1, (4, 7, 8), (3, 3, 6))
    payload = rng.integers(-payload_max, payload_max + 1, (2, 4, 7, 8))
    payload[0] = payload_max
    out = operators.apply(form, payload, payload_max)
    assert out.dtype == dtype
    pre, post, w = operators.synapses(form)
    expected = np.zeros((2, 3 * 3 * 6), object)
    flat = payload.reshape(2, -1).astype(object)
    for a, b, c in zip(pre, post, w, strict=True):
        expected[:, b] += flat[:, a] * int(c)
    np.testing.assert_array_equal(out.reshape(2, -1).astype(np.int64), expected.astype(np.int64))


@given(seed=st.integers(0, 10**6))
def test_frames_without_spikes_are_skipped_not_changed(seed):
    rng = np.random.default_rng(seed)
    payload = rng.integers(-3, 4, (6, 4, 4, 2)).astype(np.int8)
    payload[rng.random(6) < 0.5] = 0
    for form, target in (
        (
            WindowForm(
                rng.integers(-9, 9, (3, 2, 3, 3)).astype(np.int8),
                (1, 1), ((1, 1), (1, 1)), (1, 1), 1, (2, 4, 4), (3, 4, 4),
            ),
            (3, 4, 4),
        ),
        (DenseForm(rng.integers(-9, 9, (5, 32)).astype(np.int8)), (5, 1, 1)),
    ):  # fmt: skip
        operator = Operator(form, (2, 4, 4), target, 3)
        one_by_one = np.concatenate([operator(frame[None]) for frame in payload])
        np.testing.assert_array_equal(operator(payload), one_by_one)
        assert not operator(np.zeros_like(payload)).any()


def test_dense_between_shaped_populations_keeps_c_order():
    rng = np.random.default_rng(0)
    weight = rng.integers(-9, 10, (12, 18)).astype(np.int8)
    network = Network(
        populations=(
            Input(name="a", shape=(2, 3, 3), levels=(0, 9)),
            Readout(name="b", shape=(3, 2, 2)),
        ),
        projections=(Dense(source="a", target="b", weight=weight),),
    )
    x = rng.integers(0, 10, (4, 2, 3, 3))
    np.testing.assert_array_equal(
        reference.run(network, x).readouts["b"],
        (x.reshape(4, -1) @ weight.T.astype(int)).reshape(4, 3, 2, 2),
    )


# -- memory -----------------------------------------------------------------------------------


def wide(n_steps=4):
    """A network whose batch does not fit some megabytes."""
    rng = np.random.default_rng(1)
    return Network(
        max_steps=n_steps,
        populations=(
            Input(name="in", shape=(3, 32, 32), levels=(0, 255)),
            PolarityMultiSpike(
                name="a", shape=(16, 32, 32), theta=np.array(3000), levels=(2, 4), gains=(4, 1)
            ),
            PolarityMultiSpike(
                name="b", shape=(16, 16, 16), theta=np.array(9), levels=(2, 4), gains=(4, 1)
            ),
            Readout(name="out", shape=(10,)),
        ),
        projections=(
            Conv2d(
                source="in", target="a", padding=1, weight=rng.integers(-30, 31, (16, 3, 3, 3))
            ),
            SumPool(source="a", target="b", kernel=(2, 2), stride=(2, 2)),
            Dense(source="b", target="out", weight=rng.integers(-9, 10, (10, 4096))),
        ),
    )  # fmt: skip


def test_the_memory_limit_decides_how_many_samples_run_at_a_time(monkeypatch):
    network, seen = wide(), []
    x = np.random.default_rng(2).integers(0, 256, (12, 3, 32, 32))
    whole = reference.run(network, x, 2)
    original = engine.activities
    now, together, lock = [0], [], threading.Lock()

    def spy(network, layers, units, n_steps, workers, **named):
        n = len(units["in"])
        with lock:
            seen.append(n)
            now[0] += n
            together.append(now[0])
        yield from original(network, layers, units, n_steps, workers, **named)
        with lock:
            now[0] -= n

    monkeypatch.setattr(engine, "activities", spy)
    limit = 3
    for large in (1 << 40, 0):  # one thread for all, samples of their own for each thread
        seen.clear()
        monkeypatch.setattr(engine, "LARGE_UPDATES", large)
        assert_same(reference.run(network, x, 2, memory_mb=limit), whole)
        assert sum(seen) == 12
        assert len(seen) > 2
        assert max(together) * reference.bytes_per_sample(network, 2) <= limit * 1_000_000
    with pytest.raises(InputError, match="memory_mb 0 is outside 1"):
        reference.run(network, x, memory_mb=0)


def test_peak_memory_stays_near_the_stated_limit():
    code = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy as np
from test_reference_speed import wide
from seeded_cases import peak_mb
from pmsm_hw import reference
from pmsm_hw.reference import engine
network = wide()
x = np.random.default_rng(0).integers(0, 256, (600, 3, 32, 32), dtype=np.uint8)
engine.LARGE_UPDATES = 0  # compile before measuring
reference.run(network, x[:2], 4, record=())
before = peak_mb()
reference.run(network, x, 4, record=(), memory_mb=60)
print(peak_mb() - before, reference.bytes_per_sample(network, 4) * 600 / 1e6)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, os.path.dirname(__file__)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    grown_mb, unlimited_mb = map(float, done.stdout.split())
    assert unlimited_mb > 450
    # beside the limit: the encoded inputs (7 MB) and blocks of each thread
    assert grown_mb < 60 + 60


def test_no_samples_give_empty_results():
    result = reference.run(wide(), np.zeros((0, 3, 32, 32), int))
    assert result.spikes["a"].shape == (0, 1, 16, 32, 32)
    assert result.logits["out"].shape == (0, 10)


# -- threads ----------------------------------------------------------------------------------


def test_matrix_products_get_their_threads_back():
    before = workers._n_threads()
    seen = workers.Workers(2).map(lambda _: workers._n_threads(), [1, 2, 3])
    assert seen == [1, 1, 1]
    assert workers._n_threads() == before
    with pytest.raises(ZeroDivisionError):
        workers.Workers(2).map(lambda x: 1 // x, [1, 0])
    assert workers._n_threads() == before


def test_importing_the_reference_is_light():
    code = (
        "import sys, pmsm_hw.reference; "
        "print([m for m in ('numba', 'rich', 'threadpoolctl', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# -- data sets --------------------------------------------------------------------------------


def digits_network():
    rng = np.random.default_rng(0)
    return Network(
        max_steps=2,
        populations=(
            Input(name="in", shape=(1, 8, 8), scale=1 / 16, levels=(0, 16)),
            PolarityMultiSpike(name="h", shape=(20,), theta=np.array(300), levels=(2, 4)),
            Readout(name="out", shape=(10,)),
        ),
        projections=(
            Dense(source="in", target="h", weight=rng.integers(-30, 31, (20, 64))),
            Dense(source="h", target="out", weight=rng.integers(-30, 31, (10, 20))),
        ),
    )


def test_evaluate_counts_what_run_returns(capsys):
    network, digits = digits_network(), load_digits("test")
    result = reference.run(network, digits.images, 2)
    found = reference.evaluate(network, digits, 2, progress=True)
    assert found.n_samples == 599
    np.testing.assert_array_equal(found.predictions, result.predictions())
    assert found.accuracy == np.mean(result.predictions() == digits.labels)
    for name, k in result.spikes.items():
        assert found.spikes_per_sample[name] == pytest.approx(np.abs(k).sum() / 599)
        assert found.sparsity[name] == pytest.approx(np.mean(k == 0))
    assert set(found.sparsity) == {"in", "h"}
    assert f"{100 * found.accuracy:.2f} % of 599 samples, 2 steps" in str(found)
    assert "accuracy" in found.to_dict()
    out, _ = capsys.readouterr()
    assert out == ""  # the bar goes to standard error
    small = reference.evaluate(network, digits, 2, memory_mb=1)
    np.testing.assert_array_equal(small.predictions, found.predictions)
    assert small.to_dict() == found.to_dict()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros(3, int), r"labels: have shape \(3,\).*need \(599,\) integers"),
        (np.zeros(599), "type float64"),
        (np.zeros((599, 1), int), r"shape \(599, 1\)"),
    ],
)
def test_evaluate_refuses_other_labels(labels, message):
    with pytest.raises(InputError, match=message):
        reference.evaluate(digits_network(), (load_digits("test").images, labels))


def test_predictions_of_an_unknown_readout_are_refused():
    result = reference.run(digits_network(), load_digits("test").images[:1])
    with pytest.raises(InputError, match="readout 'nope'"):
        result.predictions("nope")

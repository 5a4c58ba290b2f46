"""The emulator: against SANA-FE, on VGG-16, and how its time grows.

    python benchmarks/emulator.py [--quick] --json OUT [--sanafe-python PYTHON]

SANA-FE (GPL) is no dependency: install ``sanafe==2.2.9`` into an environment of its own and name
its Python, or set PMSM_HW_SANAFE_PYTHON; without it that part is skipped with a reason. Both run
the same networks on the same inputs, each in a process of its own, one thread, the same placement,
and must agree on spikes, packets, hops and synaptic operations.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

N_TAIL = 20  # silent frames at the end, in which all spikes run out
N_SAMPLES = 10  # of ours in a batch; SANA-FE runs one sample at a time, and one here
CASES = ("784-512-10", "784-1000-256-10", "conv")


# -- the same networks for both ------------------------------------------------------------------


def make_case(name: str, n_frames: int, n_samples: int) -> dict[str, Any]:
    """Layers, thresholds, blocks on cores and spike trains; numpy only, for both workers."""
    rng = np.random.default_rng(7)
    layers: list[dict[str, Any]] = []

    def draw(*shape: int) -> np.ndarray:
        """Weights in -6 .. 8 without 0: we count synapses other than zero, SANA-FE all of them."""
        weight = rng.integers(-6, 8, shape)
        return np.where(weight >= 0, weight + 1, weight).astype(np.int8)

    def dense(n_pre: int, n_post: int) -> dict[str, Any]:
        weight = draw(n_post, n_pre)
        return {"kind": "dense", "weight": weight, "shape": (n_post,)}

    def conv(shape: tuple[int, int, int], c: int, k: int, stride: int) -> dict[str, Any]:
        weight = draw(c, shape[0], k, k)
        size = ((shape[1] - k) // stride + 1, (shape[2] - k) // stride + 1)
        return {"kind": "conv", "weight": weight, "stride": stride, "shape": (c, *size)}

    if name == "conv":
        # 9,350 neurons with the input, 865,888 synapses, 12 cores with the input's
        layers = [conv((1, 28, 28), 8, 5, 1)]
        layers.append(conv(layers[0]["shape"], 19, 5, 2))
        layers.append(conv(layers[1]["shape"], 32, 3, 1))
        layers.append(dense(int(np.prod(layers[2]["shape"])), 10))
        n_blocks = (6, 2, 2, 1)
        thetas = (60, 400, 350, 3000)
    else:
        sizes = [int(n) for n in name.split("-")]
        layers = [dense(a, b) for a, b in itertools.pairwise(sizes)]
        n_blocks = (1,) * len(layers)
        thetas = (1000, 700, 300)
    # cores in use, one after the other, in tiles of four; core 0 holds SANA-FE's input neurons
    core = 1
    for layer, n, theta in zip(layers, n_blocks, thetas, strict=False):
        layer["theta"] = theta
        c, h, _ = (*layer["shape"], 1, 1)[:3]
        size = h if h > 1 else c
        cuts = [size * i // n for i in range(n + 1)]
        layer["cuts"] = list(zip(cuts, cuts[1:], range(core, core + n), strict=False))
        core += n
    x = rng.random((n_samples, n_frames + N_TAIL, 784)) < 0.2
    x[:, n_frames:] = False
    return {"layers": layers, "x": x}


def place(core: int) -> tuple[int, int, int]:
    """Tile (x, y) and core within it: SANA-FE fills tiles column by column."""
    return core // 4 // 4, core // 4 % 4, core % 4


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


# -- worker: SANA-FE -----------------------------------------------------------------------------


def sanafe_worker(name: str, n_frames: int, timing: str, n_steps: int | None) -> dict[str, Any]:
    import sanafe

    case = make_case(name, n_frames, 1)
    x = case["x"][0]
    arch = sanafe.load_loihi()
    empty = peak_mib()
    net = sanafe.Network()
    source = net.create_neuron_group("in", 784)
    for i in range(784):
        source[i].set_attributes(
            soma_hw_name=f"loihi_inputs[{i}]", model_attributes={"spikes": x[:, i].tolist()}
        )
        source[i].map_to_core(arch.tiles[0].cores[0])
    shape: tuple[int, ...] = (1, 28, 28)
    for number, layer in enumerate(case["layers"]):
        n = int(np.prod(layer["shape"]))
        group = net.create_neuron_group(
            f"layer{number}",
            n,
            # it fires above the threshold: a hair less makes that "at or above" for integers
            model_attributes={
                "threshold": layer["theta"] - 1e-4, "reset_mode": "soft", "leak_decay": 1.0,
            },
        )  # fmt: skip
        _, h, w = (*layer["shape"], 1, 1)[:3]
        unit = "loihi_dense_synapse" if layer["kind"] == "dense" else "loihi_conv_synapse"
        for i in range(n):
            row = i // w % h if h > 1 else i
            core = next(core for a, b, core in layer["cuts"] if a <= row < b)
            group[i].set_attributes(soma_hw_name="loihi_lif", default_synapse_hw_name=unit)
            tx, ty, which = place(core)
            group[i].map_to_core(arch.tiles[tx * 4 + ty].cores[which])
        weight = layer["weight"].astype(float)
        if layer["kind"] == "dense":
            source.connect_neurons_dense(group, {"weight": weight.T.reshape(-1).tolist()})
        else:
            flat = weight.transpose(2, 3, 1, 0).reshape(-1).tolist()
            source.connect_neurons_conv2d(
                group, {"weight": flat}, shape[2], shape[1], shape[0], weight.shape[3],
                weight.shape[2], weight.shape[0], layer["stride"], layer["stride"],
            )  # fmt: skip
        source, shape = group, layer["shape"]
    chip = sanafe.SpikingChip(arch)
    chip.load(net)
    steps = len(x) if n_steps is None else n_steps
    start, cpu = time.perf_counter(), time.process_time()
    out = chip.sim(
        steps, timing_model=timing, processing_threads=1, scheduler_threads=0, perf_trace=True
    )
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    return {
        "wall_s": wall,
        "cpu_s": cpu,
        "peak_mib": peak_mib(),
        "empty_chip_mib": empty,
        "fired": int(out["neurons_fired"]),
        "messages": int(out["packets_sent"]),
        "synops": int(out["spikes"]),
        "hops": int(sum(out["perf_trace"]["hops"])),
        "synapse_pj": out["energy"]["synapse"] * 1e12,
        "network_pj": out["energy"]["network"] * 1e12,
        "sim_ns": out["sim_time"] * 1e9,
    }


# -- worker: ours --------------------------------------------------------------------------------


def our_network(case: dict[str, Any], name: str) -> tuple[Any, Any]:
    """Network and mapping of a case."""
    from pmsm_hw import Conv2d, Dense, Input, Network, PolarityMultiSpike
    from pmsm_hw.mapping import Block, Mapping, load_chip

    conv = name == "conv"
    shape: tuple[int, ...] = (1, 28, 28) if conv else (784,)
    populations: list[Any] = [Input(name="in", shape=shape, levels=(0, 1))]
    projections: list[Any] = []
    blocks = []
    chip = load_chip("loihi1")
    for number, layer in enumerate(case["layers"]):
        target = f"layer{number}"
        populations.append(
            PolarityMultiSpike(
                name=target,
                shape=layer["shape"],
                theta=np.array(layer["theta"]),
                levels=(0, 1),
                v_init=np.array(0),
            )
        )
        common = {"source": populations[-2].name, "target": target, "weight": layer["weight"]}
        projections.append(
            Dense(**common)
            if layer["kind"] == "dense"
            else Conv2d(**common, stride=layer["stride"])
        )
        c, h, w = (*layer["shape"], 1, 1)[:3]
        for a, b, core in layer["cuts"]:
            x, y, which = place(core)
            blocks.append(
                Block(
                    population=target,
                    channels=(0, c) if h > 1 else (a, b),
                    rows=(a, b) if h > 1 else (0, 1),
                    columns=(0, w),
                    core=(y * chip.columns + x) * 4 + which,
                )
            )
    network = Network(
        name=name,
        populations=tuple(populations),
        projections=tuple(projections),
        max_steps=case["x"].shape[1],
    )
    mapping = Mapping(
        network_fingerprint=network.fingerprint,
        network_name=name,
        chip=chip,
        blocks=tuple(blocks),
        spike_modes={p.name: "unit" for p in network},
        usage=np.zeros((len({b.core for b in blocks}), 4), np.int64),
        link_load=np.zeros((chip.rows, chip.columns, 4)),
        metrics={},
    )
    return network, mapping


def our_worker(name: str, n_frames: int, mode: str, n_samples: int, repeats: int) -> dict[str, Any]:
    begin = time.perf_counter()
    from pmsm_hw.emulator import Emulator

    case = make_case(name, n_frames, n_samples)
    network, mapping = our_network(case, name)
    x = case["x"].reshape(n_samples, -1, *network.inputs[0].shape).astype(np.int8)
    options: dict[str, Any] = {"mode": mode, "record": []}
    emulator = Emulator(network, mapping, profile="sanafe")
    one = emulator.run(x[:1], x.shape[1], **options)
    first_s = time.perf_counter() - begin
    walls, cpus = [], []
    for _ in range(repeats):
        start, cpu = time.perf_counter(), time.process_time()
        report = emulator.run(x, x.shape[1], **options)
        walls.append(time.perf_counter() - start)
        cpus.append(time.process_time() - cpu)
    total = one.counts.total()
    priced = one.energy.by_event
    return {
        "wall_s": min(walls),
        "cpu_s": min(cpus),
        "peak_mib": peak_mib(),
        "first_result_s": first_s,
        "n_neurons": network.n_neurons + 784,
        "n_synapses": network.n_synapses,
        "n_cores": len(mapping.cores) + 1,
        "all_synops": report.counts.total()["synaptic_operations"],
        "fired": total["neurons_fired"]
        + int(one.counts.fired[:, one.counts.layout.n_blocks :].sum()),
        "messages": total["messages"],
        "synops": total["synaptic_operations"],
        "hops": sum(total[f"hops_{d}"] for d in ("east", "west", "north", "south")),
        "synapse_pj": sum(v[2] or 0 for k, v in priced.items() if k.startswith("synaptic")),
        "hop_pj": sum(v[2] or 0 for k, v in priced.items() if k.startswith("hop")),
        "sim_ns": int(one.timing.step_ps.sum()) / 1000,
    }


# -- VGG-16 --------------------------------------------------------------------------------------


def vgg16() -> Any:
    """VGG-16 in CIFAR shape: 13 convolutions, five pooling relays, one dense; random weights."""
    from pmsm_hw import Conv2d, Dense, Input, Network, PolarityMultiSpike, Readout, SumPool

    rng = np.random.default_rng(3)
    populations: list[Any] = [Input(name="in", shape=(3, 32, 32), levels=(0, 15))]
    projections: list[Any] = []
    size, channels, number = 32, 3, 0
    for item in (
        64,
        64,
        "P",
        128,
        128,
        "P",
        256,
        256,
        256,
        "P",
        512,
        512,
        512,
        "P",
        512,
        512,
        512,
        "P",
    ):
        source = populations[-1].name
        number += 1
        if item == "P":
            size //= 2
            # a relay that sends half the sum of four, 4 spikes at most
            populations.append(
                PolarityMultiSpike(
                    name=f"pool{number}", shape=(channels, size, size), theta=np.array(2),
                    levels=(0, 4),
                )
            )  # fmt: skip
            projections.append(
                SumPool(source=source, target=populations[-1].name, kernel=(2, 2), stride=(2, 2))
            )
            continue
        c_out = int(item)
        fan_in = channels * 9
        populations.append(
            PolarityMultiSpike(
                name=f"conv{number}", shape=(c_out, size, size),
                theta=np.array(int(7 * math.sqrt(fan_in))), levels=(0, 4),
            )
        )  # fmt: skip
        weight = np.clip(np.rint(rng.normal(0, 20, (c_out, channels, 3, 3))), -127, 127)
        projections.append(
            Conv2d(
                source=source, target=populations[-1].name, weight=weight.astype(np.int8), padding=1
            )  # type: ignore[arg-type]
        )
        channels = c_out
    populations.append(Readout(name="out", shape=(10,)))
    projections.append(
        Dense(
            source=populations[-2].name, target="out",
            weight=rng.integers(-20, 21, (10, 512)).astype(np.int8),
        )
    )  # fmt: skip
    return Network(
        name="VGG-16 CIFAR", populations=tuple(populations), projections=tuple(projections)
    )


def vgg_worker(n_samples: int, mode: str) -> dict[str, Any]:
    """Time and memory of the reference and of counts mode, or of one sample in cycle mode."""
    from pmsm_hw import reference
    from pmsm_hw.emulator import Emulator
    from pmsm_hw.errors import CapacityError
    from pmsm_hw.mapping import load_chip, map_network

    network = vgg16()
    for name in ("nahuku", "pohoiki_springs"):
        try:
            mapping = map_network(network, load_chip(name))
            break
        except CapacityError as error:
            print(error, file=sys.stderr)
    rng = np.random.default_rng(0)
    x = rng.integers(0, 16, (n_samples, 3, 32, 32))
    start, cpu = time.perf_counter(), time.process_time()
    emulator = Emulator(network, mapping, profile="sanafe")
    out: dict[str, Any] = {
        "board": mapping.chip.name,
        "n_cores": len(mapping.cores),
        "layout_wall_s": time.perf_counter() - start,
        "layout_cpu_s": time.process_time() - cpu,
    }
    emulator.run(x[:1], record=[])  # compiled loops from cache
    if mode == "cycle":
        emulator.run(np.zeros((1, 3, 32, 32), np.int64), mode="cycle", record=[])

    def timed(what: str, function: Any, repeats: int = 3) -> Any:
        walls, cpus = [], []
        for _ in range(repeats):
            start, cpu = time.perf_counter(), time.process_time()
            result = function()
            walls.append(time.perf_counter() - start)
            cpus.append(time.process_time() - cpu)
        out[f"{what}_wall_s"], out[f"{what}_cpu_s"] = min(walls), min(cpus)
        return result

    if mode == "counts":
        timed("reference", lambda: reference.run(network, x, record=[]))
        report = timed("counts", lambda: emulator.run(x, record=[]))
    else:
        report = timed("cycle", lambda: emulator.run(x[:1], mode="cycle", record=[]), repeats=1)
    total = report.counts.total()
    n = report.n_samples
    out |= {
        "messages": total["messages"] / n,
        "synops": total["synaptic_operations"] / n,
        "hops": sum(total[f"hops_{d}"] for d in ("east", "west", "north", "south")) / n,
        "peak_mib": peak_mib(),
    }
    return out


def growth_worker() -> dict[str, Any]:
    """Cycle time of a two-layer network on 17 cores as the input's activity grows."""
    from pmsm_hw import Dense, Input, Network, PolarityMultiSpike
    from pmsm_hw.emulator import Emulator
    from pmsm_hw.mapping import load_chip, map_network

    rng = np.random.default_rng(0)
    network = Network(
        name="growth",
        populations=(
            Input(name="in", shape=(1024,), levels=(0, 1)),
            PolarityMultiSpike(name="a", shape=(4096,), theta=np.array(40), levels=(0, 1)),
            PolarityMultiSpike(name="b", shape=(512,), theta=np.array(1 << 20), levels=(0, 1)),
        ),
        projections=(
            Dense(source="in", target="a", weight=rng.integers(1, 9, (4096, 1024))),
            Dense(source="a", target="b", weight=rng.integers(1, 9, (512, 4096))),
        ),
    )
    emulator = Emulator(network, map_network(network, load_chip("loihi1")), profile="sanafe")
    emulator.run(np.zeros((1, 1024), np.int64), mode="cycle")
    messages, seconds = [], []
    # so many samples that the smallest run is not all overhead; two decades of messages
    for n_samples in (10, 30, 100, 300, 1000):
        x = (rng.random((n_samples, 1024)) < 0.1).astype(np.int64)
        best = math.inf
        for _ in range(3):
            cpu = time.process_time()
            report = emulator.run(x, mode="cycle", record=[])
            best = min(best, time.process_time() - cpu)
        messages.append(report.counts.total()["messages"])
        seconds.append(best)
    exponent = float(np.polyfit(np.log(messages), np.log(seconds), 1)[0])
    return {"messages": messages, "cpu_s": seconds, "exponent": exponent}


# -- the whole -----------------------------------------------------------------------------------


def worker(
    python: str, *arguments: str, timeout_s: float = 600, n_threads: int = 1
) -> dict[str, Any] | None:
    """Run one worker in a process of its own; None if it takes too long."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    environment = {**os.environ, **dict.fromkeys(names, str(n_threads))}
    try:
        done = subprocess.run(
            [python, __file__, "--worker", *arguments],
            capture_output=True, text=True, timeout=timeout_s, env=environment,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return None
    if done.returncode != 0:
        raise RuntimeError(f"worker {arguments} failed:\n{done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def against_sanafe(name: str, sanafe_python: str, quick: bool) -> dict[str, Any]:
    """One network in both, on one thread each; ours in counts mode on all cores as well."""
    frames = "20" if quick else "60"
    samples, repeats = ("5", "2") if quick else (str(N_SAMPLES), "7")
    theirs = worker(sanafe_python, "sanafe", name, frames, "detailed", "0")
    cycle = worker(sys.executable, "ours", name, frames, "cycle", samples, repeats)
    counts = worker(sys.executable, "ours", name, frames, "counts", samples, repeats)
    n_cores = os.cpu_count() or 1
    spread = worker(
        sys.executable, "ours", name, frames, "counts", samples, repeats, n_threads=n_cores
    )
    assert spread is not None
    assert theirs is not None
    assert cycle is not None
    assert counts is not None
    same = ("fired", "messages", "synops", "hops")
    row: dict[str, Any] = {
        "network": name,
        "n_neurons": cycle["n_neurons"],
        "n_synapses": cycle["n_synapses"],
        "n_cores": cycle["n_cores"],
        "synops": theirs["synops"],
        "equal_counts": all(theirs[k] == cycle[k] == counts[k] for k in same),
        "synapse_energy_ratio": cycle["synapse_pj"] / theirs["synapse_pj"],
        "sanafe_detailed_synops_per_s": theirs["synops"] / theirs["wall_s"],
        "cycle_synops_per_s": cycle["all_synops"] / cycle["wall_s"],
        "counts_synops_per_s": counts["all_synops"] / counts["wall_s"],
        "sanafe_detailed_synops_per_cpu_s": theirs["synops"] / theirs["cpu_s"],
        "cycle_synops_per_cpu_s": cycle["all_synops"] / cycle["cpu_s"],
        "counts_synops_per_cpu_s": counts["all_synops"] / counts["cpu_s"],
        "sanafe_mib": theirs["peak_mib"],
        "cycle_mib": cycle["peak_mib"],
        "counts_mib": counts["peak_mib"],
        "start_to_first_result_s": max(cycle["first_result_s"], counts["first_result_s"]),
        "simulated_time_ns": {"sanafe_detailed": theirs["sim_ns"], "cycle": cycle["sim_ns"]},
    }
    base = row["sanafe_detailed_synops_per_cpu_s"]
    row["cycle_vs_sanafe_detailed"] = row["cycle_synops_per_cpu_s"] / base
    row["counts_vs_sanafe_detailed"] = row["counts_synops_per_cpu_s"] / base
    row["n_threads"] = n_cores
    row["threaded_counts_synops_per_s"] = spread["all_synops"] / spread["wall_s"]
    row["threaded_counts_vs_sanafe_detailed"] = (
        row["threaded_counts_synops_per_s"] / row["sanafe_detailed_synops_per_s"]
    )
    row["memory_vs_sanafe"] = max(row["cycle_mib"], row["counts_mib"]) / row["sanafe_mib"]
    if not quick:
        steps = 2
        slow = worker(sanafe_python, "sanafe", name, frames, "cycle", str(steps), timeout_s=60)
        if slow is None:
            row["cycle_vs_sanafe_cycle"] = None
            row["sanafe_cycle"] = f"{steps} steps did not end within 60 s"
        else:
            rate = slow["synops"] / slow["cpu_s"]
            row["sanafe_cycle_synops_per_cpu_s"] = rate
            row["cycle_vs_sanafe_cycle"] = row["cycle_synops_per_cpu_s"] / rate
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="smaller; ends within 45 s")
    parser.add_argument("--json", type=Path, required=True, metavar="OUT", help="where to write")
    parser.add_argument(
        "--sanafe-python",
        default=os.environ.get("PMSM_HW_SANAFE_PYTHON"),
        metavar="PYTHON",
        help="a Python that has sanafe 2.2.9 (PMSM_HW_SANAFE_PYTHON)",
    )
    options = parser.parse_args()
    from harness import machine

    begin = time.perf_counter()
    result: dict[str, Any] = {
        "benchmark": "emulator",
        "quick": options.quick,
        "machine": machine(),
        "load_average_at_start": os.getloadavg()[0],
    }
    if options.sanafe_python:
        result["sanafe_version"] = "2.2.9"
        result["rows"] = [
            against_sanafe(name, options.sanafe_python, options.quick)
            for name in (CASES[:1] if options.quick else CASES)
        ]
    else:
        result["rows"] = []
        result["sanafe_skipped"] = "no Python with sanafe given (--sanafe-python)"
    result["growth"] = None if options.quick else worker(sys.executable, "growth")
    if not options.quick:
        counts = worker(sys.executable, "vgg", "32", "counts")
        cycle = worker(sys.executable, "vgg", "1", "cycle")
        assert counts is not None
        assert cycle is not None
        counts["counts_vs_reference"] = counts["counts_cpu_s"] / counts["reference_cpu_s"]
        result["vgg16"] = {"counts": counts, "cycle": cycle}
    result["load_average_at_end"] = os.getloadavg()[0]
    result["seconds"] = time.perf_counter() - begin
    text = json.dumps(result, indent=2) + "\n"
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(text, encoding="utf-8")
    options.json.with_suffix(".md").write_text(markdown(result), encoding="utf-8")
    print(markdown(result))


def markdown(result: dict[str, Any]) -> str:
    """The figures, for people."""
    m = result["machine"]
    versions = ", ".join(f"{k} {v}" for k, v in m["versions"].items())
    lines = [
        "# Emulator",
        "",
        f"{m['processor']}, {m['n_cores']} cores, Python {m['python']}, {versions}. "
        f"Load average {result['load_average_at_start']:.1f} at the start and "
        f"{result['load_average_at_end']:.1f} at the end: where that is well above 0, wall "
        "times say little, and rates and ratios here are per second of processor time, on one "
        "thread, where nothing else is said.",
        "",
    ]
    if result["rows"]:
        lines += [
            f"## Against SANA-FE {result['sanafe_version']}, `detailed` timing",
            "",
            f"SANA-FE runs one sample of 60 frames and {N_TAIL} silent ones; ours a batch of "
            f"{N_SAMPLES} such samples, best of 7, after one run of a single sample, whose counts "
            "must equal SANA-FE's. Rates are synaptic operations of all samples per second. The "
            f"column '{result['rows'][0]['n_threads']} threads' is the same batch on that many "
            "threads, by the wall clock, against SANA-FE's one thread.",
            "",
            "| network | neurons | synapses | cores | equal counts | SANA-FE, M synops/s | cycle | "
            "counts | cycle : detailed | counts : detailed | counts, "
            f"{result['rows'][0]['n_threads']} threads : detailed | cycle : SANA-FE cycle | "
            "SANA-FE MiB | ours MiB (cycle, counts) | memory ratio | first result s |",
            "|" + "---|" * 16,
        ]
        for r in result["rows"]:
            slow = r.get("cycle_vs_sanafe_cycle")
            slow_text = f"{slow:,.0f}x" if slow else r.get("sanafe_cycle", "not run")
            lines.append(
                f"| {r['network']} | {r['n_neurons']:,} | {r['n_synapses']:,} | {r['n_cores']} | "
                f"{'yes' if r['equal_counts'] else 'NO'} | "
                f"{r['sanafe_detailed_synops_per_cpu_s'] / 1e6:.1f} | "
                f"{r['cycle_synops_per_cpu_s'] / 1e6:,.0f} | "
                f"{r['counts_synops_per_cpu_s'] / 1e6:,.0f} | "
                f"{r['cycle_vs_sanafe_detailed']:.0f}x | {r['counts_vs_sanafe_detailed']:.0f}x | "
                f"{r['threaded_counts_vs_sanafe_detailed']:.0f}x | "
                f"{slow_text} | {r['sanafe_mib']:,.0f} | {r['cycle_mib']:.0f}, "
                f"{r['counts_mib']:.0f} | {r['memory_vs_sanafe']:.3f} | "
                f"{r['start_to_first_result_s']:.1f} |"
            )
        lines.append("")
    else:
        lines += [f"Against SANA-FE: skipped, {result['sanafe_skipped']}.", ""]
    if result.get("growth"):
        g = result["growth"]
        lines += [
            "## Growth of cycle mode",
            "",
            f"{g['messages'][0]:,} to {g['messages'][-1]:,} messages: processor time grows with "
            f"exponent {g['exponent']:.3f}.",
            "",
        ]
    if result.get("vgg16"):
        c, y = result["vgg16"]["counts"], result["vgg16"]["cycle"]
        lines += [
            "## VGG-16, CIFAR shape, random weights",
            "",
            f"On {c['n_cores']:,} cores of {c['board']}; {c['synops']:,.0f} synaptic operations, "
            f"{c['messages']:,.0f} messages and {c['hops']:,.0f} hops per sample. Laying it out "
            f"takes {c['layout_cpu_s']:.1f} s, once.",
            "",
            f"- counts mode, 32 samples: {c['counts_cpu_s']:.2f} s, "
            f"{c['counts_vs_reference']:.2f}x the reference's {c['reference_cpu_s']:.2f} s",
            f"- cycle mode, one sample: {y['cycle_cpu_s']:.1f} s of processor time "
            f"({y['cycle_wall_s']:.1f} s on the wall), {y['peak_mib']:,.0f} MiB",
            "",
        ]
    return "\n".join(lines)


def work(arguments: list[str]) -> dict[str, Any]:
    """Entry of the workers."""
    kind, *rest = arguments
    if kind == "sanafe":
        name, frames, timing, steps = rest
        return sanafe_worker(name, int(frames), timing, int(steps) or None)
    if kind == "ours":
        name, frames, mode, samples, repeats = rest
        return our_worker(name, int(frames), mode, int(samples), int(repeats))
    if kind == "vgg":
        return vgg_worker(int(rest[0]), rest[1])
    return growth_worker()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        print(json.dumps(work(sys.argv[2:])))
    else:
        main()

"""Calls of public functions that are right but for one argument, made from their signatures.

``python tests/fuzz_calls.py --cases 400`` calls what the front doors export. Right calls must
succeed; each other one must raise the package's own error, with a message of one line that names
the argument or its value, and leave the folder as it was.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import os
import random
import re
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent))

from in_process import snapshot

from pmsm_hw.arguments import shown

DOORS = ["pmsm_hw", "pmsm_hw.io", "pmsm_hw.mapping", "pmsm_hw.emulator", "pmsm_hw.lava",
         "pmsm_hw.datasets", "pmsm_hw.report", "pmsm_hw.demo"]  # fmt: skip
TORCH_DOORS = ["pmsm_hw.nn", "pmsm_hw.convert"]

ANSWERS = {
    "Chip", "Compose", "Conversion", "ConversionReport", "Counts", "DemoResult", "Energy",
    "EntropyReport", "History", "IntegerModel", "IntegerSnn", "LabelledImages", "LabelledSet",
    "LoihiConversionReport",
    "Link", "Mapping", "Mirror", "Operations", "PopulationReport", "Report", "Result", "Samples",
    "SnnResult", "Snn", "Spread", "Suggestion", "Timing", "Vit", "LavaNetwork", "LavaResult",
    "to_lava",
    "LoihiNetwork", "LoihiPopulationReport", "Activity", "Evaluation",
    "StateBound", "Population", "Projection", "Quantity",
}  # fmt: skip
"""Classes whose objects the package makes, and what needs Lava in this Python."""

NAN = float("nan")
INTEGER: tuple[Any, ...] = (2.5, "4", [1], NAN, None)
NUMBER: tuple[Any, ...] = ("x", [1.0], NAN, None)
PAIR: tuple[Any, ...] = (4, "ab", (1,), (1, 2, 3), (1.5, 2), (NAN, 1), None)
SHAPE: tuple[Any, ...] = ("x", (0, 1), (1.5, 1), (), None)
CHOICE: tuple[Any, ...] = ("nonsense", 5, None)
OBJECT: tuple[Any, ...] = ("text", 5, None)
PATH: tuple[Any, ...] = (5, "nowhere/deep/x.h5", None)
ARRAY: tuple[Any, ...] = (
    "text", [[1, 2], [3]], np.array(["a", "b"]), np.zeros((0, 1, 8, 8)), np.full((4, 1, 8, 8), NAN),
    np.zeros((4, 3)), {"nobody": np.zeros((2, 4))}, None,
)  # fmt: skip
INTEGERS: tuple[Any, ...] = ("x", [1.5], [[1, 2], [3]], NAN, None)


def wrong_values(parameter: inspect.Parameter) -> tuple[Any, ...]:
    """Values that an annotation does not allow."""
    text, name = str(parameter.annotation), parameter.name
    optional = "None" in text or parameter.default is None
    kinds: list[tuple[str, tuple[Any, ...]]] = [
        (r"bool|Callable|Progress|Any|Transform|_Bar|_HasDict|MappingType", ()),
        (r"PathLike|Path\b", PATH),
        (r"Module|\bVit\b|Network|Mapping\b|Chip\b|Report|Block|Projection|PolarityQuant|Tensor|"
         r"\bJob\b|DataLoader|Batches|Population", OBJECT),
        (r"Array\b|ArrayLike|Batch|Inputs|NDArray\[np\.(float|void)|NDArray\[Any", ARRAY),
        (r"IntArray|NDArray\[np\.int", INTEGERS),
        (r"Literal|Pooling|Objective|Mode\b|SpikeMode|Overflow|Rule|Reset|PayloadMode|Granularity|Activation|Variant|"
         r"Tag|Split", CHOICE),
        (r"Shape|Pads", SHAPE),
        (r"Sequence\[int|tuple\[int, int\]", PAIR),
        (r"^'?float", NUMBER),
        (r"^'?int", INTEGER),
        (r"^'?str", CHOICE if name in CHOICES else (5,)),
    ]  # fmt: skip
    for pattern, values in kinds:
        if re.search(pattern, text):
            found = values
            break
    else:
        found = ()
    if optional:
        found = tuple(v for v in found if v is not None)
    return found


CHOICES = {"init", "rule", "overflow", "chip", "name_or_path", "mode"}


@cache
def things() -> dict[str, Any]:
    """Right values by the parameter's name, and by function and name."""
    from random_networks import small_network

    from pmsm_hw.datasets import load_digits
    from pmsm_hw.emulator import emulate
    from pmsm_hw.mapping import load_chip, map_network
    from pmsm_hw.network import Dense, Input, PolarityMultiSpike, Readout

    network = small_network()
    chip = load_chip("loihi1")
    mapping = map_network(network, chip, objective="cores")
    digits = load_digits("test")
    x, labels = digits.images[:4], digits.labels[:4]
    report = emulate(network, mapping, x, mode="cycle", trace=True, labels=labels)
    weight = np.ones((3, 4), np.int8)
    block = next(b for b in mapping.blocks if b.population == network.projections[0].target)
    made: dict[str, Any] = {
        "network": network, "mapping": mapping, "chip": chip, "x": x, "labels": labels,
        "report": report, "reports": {"a": report}, "n_steps": 1, "projection":
        network.projections[0], "block": block, "source": "a", "target": "b", "weight": weight,
        "name": "some", "shape": (4,), "theta": 3, "vth": 3, "levels": (0, 4), "kernel": (2, 2),
        "stride": (2, 2), "images": digits.images[:1, 0], "n_samples": 2, "split": "test",
        "Conv1d.weight": np.ones((2, 1, 3), np.int8),
        "Conv2d.weight": np.ones((2, 1, 3, 3), np.int8),
        "Conv1d.stride": (1,), "Conv2d.stride": (1, 1), "Identity.weight": np.int8(1),
        "SumPool.weight": np.int8(1),
        "PolarityMultiSpike.levels": (1, 4), "Input.levels": (0, 9),
        "Network.populations": (
            Input(name="a", shape=(4,), levels=(0, 1)),
            PolarityMultiSpike(name="b", shape=(3,), theta=3, levels=(0, 1)),
            Readout(name="c", shape=(3,)),
        ),
        "Network.projections": (
            Dense(source="a", target="b", weight=weight),
            Dense(source="b", target="c", weight=np.ones((3, 3), np.int8)),
        ),
        "Block.population": "conv", "channels": (0, 1), "rows": (0, 1), "columns": (0, 1),
        "core": 0, "Shift.pixels": 2, "Normalize.mean": (0.5,), "Normalize.std": (0.2,),
        "load.name": "mnist", "root": ".", "load_samples.source": "digits",
        "load_digits.split": "test",
        "read_nmnist.path": "rec.bin", "sensor_size": (34, 34, 2), "name_or_path": "toy",
        "save.path": "out.h5", "save_nir.path": "out.nir", "load.path": "mapped.h5",
        "has_mapping.path": "mapped.h5", "load_mapping.path": "mapped.h5",
        "load_report.path": "mapped.h5", "load_nir.path": "net.nir", "import_nir.path": "net.nir",
        "write_trace.path": "out.json", "write_html.path": "out.html", "plot_mapping.path": None,
        "xy_route.source": (0, 0), "xy_route.target": (1, 1), "jobs": (), "chip_name": "toy",
        "logits": {"o": np.zeros((2, 3))},
    }  # fmt: skip
    from pmsm_hw.datasets import read_nmnist

    made["events"] = read_nmnist("rec.bin")
    if find_spec("torch"):
        import torch

        from pmsm_hw import nn
        from pmsm_hw.convert import save_model

        plain = nn.models.build("mlp", seed=0, sizes=(64, 8, 10))
        quantized = nn.quantize(plain, (0, 4), calibration=x)
        save_model("model.pt", quantized)
        data = nn.loader(x, labels)
        made |= {
            "quantize.model": plain, "suggest.model": plain, "accuracy.model": plain,
            "predict.model": plain, "train.model": plain, "model": quantized,
            "calibration": x, "quantize.calibration": x, "choose_levels.target_bits": 1.0,
            "example_input": x, "calibrate.x": x, "data": data, "epochs": 1,
            "values": np.linspace(0, 1, 50), "factory": "mine:make", "load_model.path": "model.pt",
            "save_model.path": "out.pt", "quantizer": nn.PolarityQuant((0, 4), theta=0.5),
            "choose_theta.x": torch.rand(30), "method": "mse", "subject": "x", "mean": 0.0,
            "std": 1.0, "k": torch.ones(4, dtype=torch.int64), "entropy_report.data": x,
            "in_features": 4, "out_features": 3, "in_channels": 2, "out_channels": 4,
            "kernel_size": 3, "LoihiSumPool.kernel_size": (2, 2),
            "with_loihi_synapses.model": torch.nn.Linear(2, 2, bias=False),
            "from_network.network": _of_loihi(), "voltage_decay.tau_steps": 3.0,
            "current_decay.tau_steps": 3.0,
            "loader.x": x, "PolarityQuant.theta": 0.5, "InputQuant.levels": (0, 255),
        }  # fmt: skip
    return made


def _of_loihi() -> Any:
    from pmsm_hw.network import CubaLif, Dense, Input, Network

    return Network(
        populations=(
            Input(name="a", shape=(4,), levels=(0, 1)), CubaLif(name="b", shape=(3,), vth=3)
        ),
        projections=(Dense(source="a", target="b", weight=np.ones((3, 4), np.int8)),),
    )  # fmt: skip


NOT_CALLED = {
    "demo.run_demo", "nn.quantize_vit", "nn.vit_small", "nn.vit_tiny", "nn.qcfs_snn",
    "nn.calibrate_from_batch_norm", "nn.learn_gains", "nn.snap_gains", "emulator.Emulator",
    "nn.PolarityMultiSpike", "lava.run_many", "nn.finetune", "nn.choose_theta", "mapping.Block",
    "lava.Job", "mapping.fan_out", "nn.entropy_bits", "nn.gaussian_bits",
}  # fmt: skip
"""Long to run (`test_demo_calls` has the demo), for experts, or with objects of the package."""


EMPTY_IN_EMPTY_OUT = {("lava.run", "x"), ("nn.predict", "x"), ("nn.spikes", "x")}
"""Of no samples these give no results, as `reference.run` does: nothing in that is wrong."""


def is_right(name: str, parameter: str, value: Any) -> bool:
    """Whether a value that is made for many parameters is right for this one, by its meaning."""
    if isinstance(value, np.ndarray):
        is_plain = value.dtype.kind == "f" and bool(np.isfinite(value).all())
        return (value.size == 0 and (name, parameter) in EMPTY_IN_EMPTY_OUT) or (
            # samples of any shape; it is the model that has one
            (name, parameter) == ("nn.loader", "x") and is_plain and len(value) == 4
        )
    if parameter == "padding" and isinstance(value, tuple):
        # one number per axis pads both ends alike; of a pool, no padding is ()
        return value == (0, 1) or (name == "SumPool" and value == ())
    if parameter == "learned_bias":
        return value in (4, (1,), (1, 2, 3))  # channels, shapes
    if name.startswith("nn.") and value == 5:  # numbers, though they may be tensors as well
        return parameter in {"vth", "du", "dv", "da", "adaptation", "bias", "theta"} or (
            (name, parameter) == ("nn.LoihiReadout", "scale")
        )
    if (name, parameter) == ("nn.LoihiSumPool", "kernel_size"):
        return value in (4, (1,))  # of one spatial axis
    return False


SUBJECTS = {
    "x": ("batch", "training data", "activations", "input", "samples"),
    "values": ("activations",),
    "candidates": ("levels",),
    "calibration": ("batch",),
    "example_input": ("an input of shape",),
    "source": ("end",),
    "target": ("end",),
    "n_samples": ("number of samples",),
    "n_steps": ("number of steps",),
}
"""What an argument is called where a message names neither it nor its value."""


@dataclass(frozen=True, eq=False)
class Call:
    """One call, and the argument that is wrong in it."""

    name: str
    function: Callable[..., Any]
    parameter: str
    value: Any


def public() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Functions of the front doors, and classes that users make objects of."""
    for door in DOORS + (TORCH_DOORS if find_spec("torch") else []):
        module = importlib.import_module(door)
        for name in sorted(module.__all__):
            if name in ANSWERS:
                continue
            thing = getattr(module, name)
            if inspect.isclass(thing) and issubclass(thing, Exception):
                continue
            if inspect.isroutine(thing) or inspect.isclass(thing):
                yield f"{door.removeprefix('pmsm_hw').lstrip('.')}.{name}".lstrip("."), thing


def parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    found = inspect.signature(function).parameters
    return {n: p for n, p in found.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}


def right(name: str, parameter: inspect.Parameter) -> Any:
    """A right value of a parameter, or its default."""
    known = things()
    for key in (f"{name.rpartition('.')[2]}.{parameter.name}", parameter.name):
        if key in known and (parameter.default is parameter.empty or "." in key):
            return known[key]
    if parameter.default is parameter.empty:
        raise LookupError(f"{name} needs a right value of {parameter.name}")
    return parameter.default


def calls() -> list[Call]:
    """Every wrong value of every argument."""
    return [
        Call(name, function, parameter.name, value)
        for name, function in public()
        if name not in NOT_CALLED
        for parameter in parameters(function).values()
        for value in wrong_values(parameter)
        if not is_right(name, parameter.name, value)
    ]


def chosen(n: int, seed: int, only: str = "") -> list[Call]:
    """Calls of functions whose names hold a text."""
    every = [call for call in calls() if only in call.name]
    random.Random(seed).shuffle(every)
    return every[:n]


def make(call: Call, *, wrong: bool = True) -> None:
    """Call with right values of all arguments but the wrong one."""
    known = things()
    given = {
        n: right(call.name, p)
        for n, p in parameters(call.function).items()
        if (wrong and n == call.parameter)
        or p.default is p.empty
        or f"{call.name.rpartition('.')[2]}.{n}" in known
    }
    if wrong:
        given[call.parameter] = call.value
    order = list(parameters(call.function).values())
    positional = [given.pop(p.name) for p in order if p.kind is p.POSITIONAL_ONLY]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        call.function(*positional, **given)


def names_it(call: Call, message: str) -> bool:
    """Whether a message, without its remedy, says what is wrong: the argument, or its value."""
    said = message.rpartition("; ")[0].lower()
    name = call.parameter
    words = (
        name,
        name.replace("_", " "),
        *SUBJECTS.get(name, ()),
        shown(call.value)[:40].strip("'"),
    )
    return any(word.lower() in said for word in words)


def problem(call: Call, folder: Path) -> str | None:
    """What is wrong with how a call ended, None if nothing is."""
    from pmsm_hw import PmsmHwError

    before = snapshot(folder)
    try:
        make(call)
    except PmsmHwError as error:
        if "\n" in str(error):
            return f"message of several lines: {error}"
        if not names_it(call, str(error)):
            return f"names neither the argument nor its value: {error}"
    except BaseException as error:  # what must not be
        return f"{type(error).__name__}: {str(error).splitlines()[0][:150] if str(error) else ''}"
    else:
        return "accepted"
    return f"wrote {set(snapshot(folder)) ^ set(before)}" if snapshot(folder) != before else None


def failing(every: list[Call]) -> dict[str, str]:
    """Functions that fail with right values of all arguments, and how."""
    found = {}
    for name, call in {call.name: call for call in every}.items():
        try:
            make(call, wrong=False)
        except Exception as error:
            found[name] = f"{type(error).__name__}: {error}"
    return found


def prepare(folder: Path) -> None:
    from fuzz_command_line import prepare as files

    files(folder)
    rows = [bytes([x, 33 - x, 0x80, x, 9]) for x in range(34)]
    (folder / "rec.bin").write_bytes(b"".join(rows))
    for name, shape in (("images-idx3", (2, 28, 28)), ("labels-idx1", (2,))):
        header = bytes([0, 0, 8, len(shape)]) + np.array(shape, ">u4").tobytes()
        values = np.arange(np.prod(shape)) % 10
        (folder / f"train-{name}-ubyte").write_bytes(header + values.astype(np.uint8).tobytes())


def main() -> int:
    """Call and print the count."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=400)
    parser.add_argument("--only", default="", help="functions whose name holds this")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        os.chdir(folder)
        things()
        wanted = chosen(options.cases, options.seed, options.only)
        n_failed = 0
        for call in sorted(wanted, key=lambda c: (c.name, c.parameter)):
            found = problem(call, folder)
            if found is not None:
                n_failed += 1
                value = repr(call.value)[:60].replace("\n", " ")
                print(f"FAILED {call.name}({call.parameter}={value}): {found}", flush=True)
        for failed, said in failing(wanted).items():  # last: these write
            n_failed += 1
            print(f"FAILED {failed} with right arguments: {said}", flush=True)
        n_functions = len({c.name for c in wanted})
        os.chdir("/")
    print(
        f"{len(wanted)} calls, seed {options.seed}, {n_functions} functions and "
        f"classes: {n_failed} did not raise the package's own error in one line that names what is "
        "wrong, or were right and failed"
    )
    return 1 if n_failed else 0


if __name__ == "__main__":
    sys.exit(main())

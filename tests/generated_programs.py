"""Random torch programs: the network computes what torch does, or an error names the operation.

``python tests/generated_programs.py --cases 2000 [--seed N]``. Weights, inputs and limits are small
multiples of powers of two, so that neither quantizers nor weights round: the logits of the network
must be those of the program, run eagerly by torch, to the last bit that the report does not call
rounding. Programs write in place, through aliases, views and ``out=``, compute with shapes, and are
wrapped. A failure prints its seed and the program.
"""

from __future__ import annotations

import argparse
import math
import operator
import random
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from pmsm_hw import nn as pnn
from pmsm_hw import reference
from pmsm_hw.convert import convert
from pmsm_hw.errors import ConversionError, QuantizationError
from pmsm_hw.nn import PolarityQuant

GRAIN = 4
"""Quantizers have steps of 2**-4."""

TOP = 4095


class WrongNumberError(AssertionError):
    """A network that does not compute what its program does."""


@dataclass
class Memory:
    """What is known of the values in one piece of memory: bound, and multiples of 2**-grain."""

    bound: float
    grain: int


@dataclass
class Variable:
    """A name in the program."""

    name: str
    shape: tuple[int, ...]
    memory: Memory


@dataclass
class Program:
    """Source of a forward method, its modules, and how to quantize it."""

    seed: int
    modules: dict[str, nn.Module]
    lines: list[str]
    options: dict[str, Any]
    shape: tuple[int, ...]
    levels: tuple[int, int]
    used: Counter[str] = field(default_factory=Counter)
    wrapper: str = ""
    softmax: str = ""

    @property
    def source(self) -> str:
        """The forward method."""
        return "def forward(self, x):\n" + "\n".join(f"    {line}" for line in self.lines)

    def model(self, *, with_softmax: bool = True) -> nn.Module:
        """A module that runs the program."""
        lines = [*self.lines]
        if with_softmax and self.softmax:
            lines[-1] = f"return {self.softmax.format(lines[-1].removeprefix('return '))}"
        source = "def forward(self, x):\n" + "\n".join(f"    {line}" for line in lines)
        scope: dict[str, Any] = {"torch": torch, "F": F}
        exec(source, scope)
        model: nn.Module = type("Generated", (nn.Module,), {"forward": scope["forward"]})()
        for name, module in self.modules.items():
            model.add_module(name, module)
        return model.eval()

    def inputs(self, n: int = 8) -> torch.Tensor:
        """Small integers."""
        generator = torch.Generator().manual_seed(self.seed)
        lo, hi = self.levels
        return torch.randint(lo, hi + 1, (n, *self.shape), generator=generator).float()


class Writer:
    """Writes one program."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.generator = torch.Generator().manual_seed(seed)
        self.modules: dict[str, nn.Module] = {}
        self.lines: list[str] = []
        self.used: Counter[str] = Counter()
        self.family = self.rng.choice(["relu", "relu", "limited", "leaky"])
        self.limit = self.rng.choice([6, 6, 2, 3])
        n_axes = self.rng.choice([0, 0, 1, 2, 2])
        channels = self.rng.choice([1, 2, 3, 4])
        self.shape = (channels, *(self.rng.choice([4, 4, 6]) for _ in range(n_axes)))
        if n_axes == 0:
            self.shape = (self.rng.choice([2, 3, 4, 6]),)
        self.levels = self.rng.choice([(0, 3), (0, 3), (-2, 2)])
        largest = max(-self.levels[0], self.levels[1])
        self.variables = [Variable("x", self.shape, Memory(largest, 0))]

    # -- parts --------------------------------------------------------------------------------

    def name(self) -> str:
        """A name that is free."""
        return f"v{len(self.lines)}"

    def pick(self) -> Variable:
        """A variable, the last ones more often."""
        return self.rng.choice(self.variables[-2:] * 2 + self.variables)

    def new(self, shape: tuple[int, ...], bound: float, grain: int, code: str) -> Variable:
        """A variable with memory of its own."""
        found = Variable(self.name(), shape, Memory(bound, grain))
        self.lines.append(f"{found.name} = {code}")
        self.variables.append(found)
        return found

    def add(self, kind: str, module: nn.Module) -> str:
        """A module; its name in the program."""
        name = f"{kind}{len(self.modules)}"
        self.modules[name] = module.eval()
        return f"self.{name}"

    def integers(self, *shape: int, largest: int = 1) -> torch.Tensor:
        """Small integers."""
        return torch.randint(-largest, largest + 1, shape, generator=self.generator).float()

    # -- statements ---------------------------------------------------------------------------

    def layer(self, largest: int = 1) -> bool:
        v = self.pick()
        channels, *rest = v.shape
        module: Any
        if not rest:
            module = nn.Linear(channels, self.rng.randint(2, 5), bias=self.rng.random() < 0.7)
            shape: tuple[int, ...] = (module.out_features,)
        else:
            kernel = self.rng.choice([1, 2, 3])
            if kernel > min(rest):
                return False
            padding = self.rng.choice([0, 0, 1]) if kernel > 1 else 0
            groups = self.rng.choice([1, 1, channels])
            conv = nn.Conv1d if len(rest) == 1 else nn.Conv2d
            out = groups * self.rng.choice([1, 2]) if groups > 1 else self.rng.randint(1, 4)
            module = conv(channels, out, kernel, padding=padding, groups=groups)
            shape = (out, *(n + 2 * padding - kernel + 1 for n in rest))
        with torch.no_grad():
            module.weight.copy_(self.integers(*module.weight.shape, largest=largest))
            if module.bias is not None:
                module.bias.copy_(self.integers(*module.bias.shape, largest=2))
        rows = float(module.weight.detach().abs().reshape(len(module.weight), -1).sum(1).max())
        self.new(
            shape,
            rows * v.memory.bound + 2,
            v.memory.grain,
            f"{self.add('layer', module)}({v.name})",
        )
        return True

    def of_parameters(self) -> bool:
        """A layer whose weight is an activation of a parameter, sometimes by a module of others."""
        v = self.pick()
        channels, *rest = v.shape
        if rest:
            return False
        module = nn.Linear(channels, self.rng.randint(2, 4))
        fine = self.rng.choice([0, GRAIN + 1])  # finer than a quantizer could say
        with torch.no_grad():
            module.weight.copy_(self.integers(*module.weight.shape, largest=3) / 2**fine)
            module.bias.copy_(self.integers(*module.bias.shape, largest=2))
        name = self.add("layer", module)
        shared = [n for n in self.modules if n.startswith("act")]
        forms = ["F.relu({})", "{}.relu()", "F.hardtanh({}, -1, 1)", "torch.clamp({}, max=1)",
                 "F.threshold({}, 0., -1.)"]  # fmt: skip
        forms += [f"self.{n}({{}})" for n in shared if not getattr(self.modules[n], "inplace", 0)]
        rows = 3.0 * channels
        form = self.rng.choice(forms).format(f"{name}.weight")
        self.new(
            (module.out_features,), rows * v.memory.bound + 2, v.memory.grain + fine + 1,
            f"F.linear({v.name}, {form}, {name}.bias)",
        )  # fmt: skip
        return True

    def norm(self) -> bool:
        v = self.pick()
        channels = v.shape[0]
        norm: Any = (nn.BatchNorm1d if len(v.shape) < 3 else nn.BatchNorm2d)(channels, eps=0.5)
        with torch.no_grad():
            norm.running_mean.copy_(self.integers(channels))
            norm.running_var.fill_(self.rng.choice([0.5, 3.5]))  # a factor of 1 or 1 / 2
            norm.weight.copy_(self.integers(channels, largest=2))
            norm.bias.copy_(self.integers(channels))
        self.new(
            v.shape,
            2 * (v.memory.bound + 1) + 1,
            v.memory.grain + 1,
            f"{self.add('norm', norm)}({v.name})",
        )
        return True

    def activation(self) -> bool:
        v = self.pick()
        if v.memory.grain > GRAIN or v.memory.bound * 2**GRAIN > TOP:
            return False
        limit, rng = self.limit, self.rng
        in_place = rng.random() < 0.4
        if self.family == "relu":
            makers: list[Callable[[], nn.Module]] = [lambda: nn.ReLU(inplace=in_place)]
            new = ["F.relu({})", "torch.relu({})", "{}.relu()", "F.relu({}, inplace=False)"]
            writes = ["F.relu_({})", "torch.relu_({})", "{}.relu_()", "F.relu({}, True)",
                      "F.relu({}, inplace=True)"]  # fmt: skip
        elif self.family == "limited":
            makers = [lambda: nn.Hardtanh(0, limit, inplace=in_place)]
            new = [f"F.hardtanh({{}}, 0, {limit})", f"F.hardtanh({{}}, 0., {limit}.)"]
            writes = [f"F.hardtanh_({{}}, 0, {limit})", f"F.hardtanh({{}}, 0, {limit}, True)",
                      f"F.hardtanh({{}}, 0, {limit}, inplace=True)"]  # fmt: skip
            if rng.random() < 0.25:
                new = [
                    f"torch.clamp({{}}, 0, {limit})", f"{{}}.clamp(0, {limit})",
                    f"{{}}.clamp(min=0, max={limit})", f"torch.clip({{}}, 0, {limit})",
                ]  # fmt: skip
                writes = [f"{{}}.clamp_(0, {limit})", f"torch.clamp_({{}}, 0, {limit})",
                          f"torch.clamp({{0}}, 0, {limit}, out={{0}})"]  # fmt: skip
            if limit == 6:
                makers.append(lambda: nn.ReLU6(inplace=in_place))
                new.append("F.relu6({})")
                writes.append("F.relu6({}, inplace=True)")
        else:
            makers = [lambda: nn.LeakyReLU(0.5, inplace=in_place)]
            new = ["F.leaky_relu({}, 0.5)", "F.leaky_relu({}, negative_slope=0.5)"]
            writes = ["F.leaky_relu_({}, 0.5)", "F.leaky_relu({}, 0.5, True)"]
        bound = min(v.memory.bound, limit) if self.family == "limited" else v.memory.bound
        grain = v.memory.grain + (self.family == "leaky")
        choice = rng.random()
        if choice < 0.5:
            known = [n for n in self.modules if n.startswith("act")]
            if known and rng.random() < 0.3:  # called again
                code = f"self.{rng.choice(known)}"
                module = self.modules[code.removeprefix("self.")]
                in_place = bool(getattr(module, "inplace", False))
            else:
                code = self.add("act", rng.choice(makers)())
            if in_place and rng.random() < 0.3:  # the result is discarded
                self.lines.append(f"{code}({v.name})")
            else:
                made = self.new(v.shape, bound, grain, f"{code}({v.name})")
                if in_place:
                    made.memory = v.memory
            if in_place:
                v.memory.bound, v.memory.grain = v.memory.bound, grain
        elif choice < 0.8:
            self.new(v.shape, bound, grain, rng.choice(new).format(v.name))
        else:
            code = rng.choice(writes).format(v.name)
            if rng.random() < 0.5:
                self.lines.append(code)
            else:
                self.new(v.shape, bound, grain, code).memory = v.memory
            v.memory.grain = grain
        return True

    def mate(self, v: Variable) -> Variable | None:
        """Another variable of the same shape."""
        others = [w for w in self.variables if w.shape == v.shape]
        return self.rng.choice(others) if others else None

    def number(self) -> tuple[str, float, int]:
        """A constant: code, size, grain."""
        return self.rng.choice(
            [("1", 1, 0), ("1.0", 1.0, 0), ("2", 2, 0), ("0.5", 0.5, 1), ("-1.5", 1.5, 1)]
        )

    def arithmetic(self) -> bool:
        v = self.pick()
        w = self.mate(v) if self.rng.random() < 0.6 else None
        if w is not None:
            code = self.rng.choice(
                ["{} + {}", "{} - {}", "torch.add({}, {})", "torch.add({}, {}, alpha=2)",
                 "{}.sub({})", "{}.add({}, alpha=2)"]
            )  # fmt: skip
            bound = v.memory.bound + 2 * w.memory.bound
            self.new(
                v.shape, bound, max(v.memory.grain, w.memory.grain), code.format(v.name, w.name)
            )
            return True
        text, size, grain = self.number()
        code = self.rng.choice(
            ["{0} + {1}", "{1} + {0}", "{0} - {1}", "{1} - {0}", "{0} * {1}", "{1} * {0}",
             "{0} / 2", "-{0}", "torch.mul({0}, {1})", "torch.sub({0}, {1})", "torch.div({0}, 2)",
             "{0}.neg()", "torch.neg({0})", "{0} * {0}.shape[1]"]
        )  # fmt: skip
        factor = max(2, v.shape[0])
        self.new(
            v.shape, factor * v.memory.bound + size, v.memory.grain + max(grain, 1),
            code.format(v.name, text),
        )  # fmt: skip
        return True

    def write(self) -> bool:
        """In place, through a name, sometimes with the result discarded or named anew."""
        v = self.pick()
        w = self.mate(v) if self.rng.random() < 0.5 else None
        memory = v.memory
        if w is not None:
            code = self.rng.choice(
                ["{0} += {1}", "{0} -= {1}", "{0}.add_({1})", "{0}.sub_({1})",
                 "torch.add({0}, {1}, out={0})", "{0}.add_({1}, alpha=2)"]
            ).format(v.name, w.name)  # fmt: skip
            bound, grain = (
                memory.bound + 2 * w.memory.bound,
                max(memory.grain, w.memory.grain),
            )
        else:
            text, size, more = self.number()
            code = self.rng.choice(
                ["{0} += {1}", "{0} -= {1}", "{0} *= {1}", "{0} /= 2", "{0}.add_({1})",
                 "{0}.mul_({1})", "{0}.sub_({1})", "{0}.div_(2)", "{0}.neg_()",
                 "torch.mul({0}, {1}, out={0})"]
            ).format(v.name, text)  # fmt: skip
            bound, grain = 2 * memory.bound + size, memory.grain + max(more, 1)
        if "=" not in code.split("(")[0] and self.rng.random() < 0.3:
            self.new(v.shape, bound, grain, code).memory = memory
        else:
            self.lines.append(code)
        memory.bound, memory.grain = bound, grain
        return True

    def alias(self) -> bool:
        """Another name, or a view, of the same memory."""
        v = self.pick()
        n = math.prod(v.shape)
        forms = [("{0}", v.shape), ("{0}.detach()", v.shape), ("{0}.contiguous()", v.shape),
                 ("{0}.float()", v.shape), ("{0}.data", v.shape),
                 ("{0}.view({0}.shape)", v.shape), ("{0}[:]", v.shape)]  # fmt: skip
        if len(v.shape) > 1:
            forms += [
                ("{0}.flatten(1)", (n,)), ("torch.flatten({0}, 1)", (n,)),
                ("{0}.view({0}.size(0), -1)", (n,)),
                ("{0}.reshape({0}.shape[0], {1})".replace("{1}", str(n)), (n,)),
            ]  # fmt: skip
        form, shape = self.rng.choice(forms)
        found = Variable(self.name(), shape, v.memory)
        self.lines.append(f"{found.name} = {form.format(v.name)}")
        self.variables.append(found)
        return True

    def copy(self) -> bool:
        v = self.pick()
        form = self.rng.choice(
            ["{0}.clone()", "torch.clone({0})", "{0}.double().float()", "{0}.to(torch.float32)",
             "F.dropout({0}, 0.5, self.training)", "{0}.clone().detach()"]
        )  # fmt: skip
        self.new(v.shape, v.memory.bound, v.memory.grain, form.format(v.name))
        return True

    def part(self) -> bool:
        """Writes into, and reads of, parts of a value: mostly refused."""
        v = self.pick()
        last = ", :" * (len(v.shape) - 1)
        self.lines.append(
            self.rng.choice(
                ["{0}[:, 0] = 0", "{0}[:, :1] += 1", "{0}[:, :1].add_(1)", "{0}.zero_()",
                 "{0}.fill_(1)", "{0}[:, 0] = {0}[:, -1]", "{0}.view(-1).add_(1)",
                 "{0}.flatten(1).mul_(2)", "{0}[:, 0:1{1}].clamp_(min=0)",
                 "{0}.copy_({0} + 1)", "{0}.t_() if {0}.dim() == 2 else {0}.squeeze_()"]
            ).replace("{1}", last).format(v.name)
        )  # fmt: skip
        v.memory.bound, v.memory.grain = 2 * v.memory.bound + 1, v.memory.grain
        return True

    def strange(self) -> bool:
        """Operations that have no counterpart, or look like one."""
        v = self.pick()
        forms = [
            "{0} // 2", "{0} + {0} // 2", "{0} % 2", "torch.floor({0})", "{0} * {0}",
            "{0} * {0}.size(0)", "{0} ** 2", "{0}.abs()", "torch.floor_divide({0}, 2)",
            "{0}.round()", "torch.div({0}, 2, rounding_mode='floor')", "{0} * len({0}.shape)",
            "torch.cat(torch.chunk({0}, 1, 1), 1)", "F.dropout({0}, 0.0)",
            "{0} + {0}.max().item()", "torch.where({0} > 0, {0}, {0} * 0)",
        ]  # fmt: skip
        shape = v.shape
        if len(v.shape) == 3 and v.shape[1] == v.shape[2]:
            forms += [
                "{0}.mT",
                "{0} + {0}.mT",
                "{0}.transpose(2, 3)",
                "{0}.permute(0, 1, 3, 2)",
                "{0}.flip(2)",
            ]
        self.new(
            shape, max(v.memory.bound**2, 2 * v.memory.bound) * 8, v.memory.grain + 1,
            self.rng.choice(forms).format(v.name),
        )  # fmt: skip
        return True

    def floored(self) -> bool:
        """What a shape in place of a value would be added to without an error."""
        fits = [v for v in self.variables if v.shape[-1] == len(v.shape) + 1]
        if not fits:
            return False
        v = fits[-1]
        forms = ["{0} + {0} // 2", "{0} - {0} // 2", "torch.add({0} // 2, {0})"]
        if len(v.shape) == 3 and v.shape[1] == v.shape[2]:
            forms += ["{0} + {0}.mT", "{0}.mT - {0}"]
        self.new(
            v.shape, 3 * v.memory.bound, v.memory.grain + 1, self.rng.choice(forms).format(v.name)
        )
        return True

    def pool(self) -> bool:
        v = self.pick()
        if len(v.shape) == 1 or any(n % 2 for n in v.shape[1:]):
            return False
        d = len(v.shape) - 1
        shape = (v.shape[0], *(n // 2 for n in v.shape[1:]))
        average: nn.Module = (nn.AvgPool1d if d == 1 else nn.AvgPool2d)(2)
        code = self.rng.choice(
            [f"{self.add('pool', average)}({v.name})", f"F.avg_pool{d}d({v.name}, 2)",
             f"F.avg_pool{d}d({v.name}, kernel_size=2, stride=2)"]
        )  # fmt: skip
        self.new(shape, v.memory.bound, v.memory.grain + d, code)
        return True

    def flat(self) -> bool:
        """To one axis: mean over the image, or flattening."""
        v = self.pick()
        if len(v.shape) == 1:
            return False
        n = math.prod(v.shape[1:])
        axes = ", ".join(str(i + 2) for i in range(len(v.shape) - 1))
        if n & (n - 1) == 0 and self.rng.random() < 0.5:
            code = self.rng.choice(
                ["{0}.mean(dim=({1},))", "torch.mean({0}, ({1},))",
                 "F.adaptive_avg_pool{2}d({0}, 1).flatten(1)",
                 "F.adaptive_avg_pool{2}d({0}, 1).squeeze()"]
            ).format(v.name, axes, len(v.shape) - 1)  # fmt: skip
            if v.shape[0] == 1 and "squeeze" in code:
                return False
            self.new((v.shape[0],), v.memory.bound, v.memory.grain + n.bit_length() - 1, code)
            return True
        code = self.rng.choice(["{0}.flatten(1)", "{0}.reshape({0}.size(0), -1)"]).format(v.name)
        self.new((math.prod(v.shape),), v.memory.bound, v.memory.grain, code)
        return True

    def join(self) -> bool:
        v = self.pick()
        others = [w for w in self.variables if w.shape[1:] == v.shape[1:]]
        w = self.rng.choice(others)
        code = self.rng.choice(["torch.cat([{0}, {1}], 1)", "torch.cat(({0}, {1}), dim=1)"])
        self.new(
            (v.shape[0] + w.shape[0], *v.shape[1:]), max(v.memory.bound, w.memory.bound),
            max(v.memory.grain, w.memory.grain), code.format(v.name, w.name),
        )  # fmt: skip
        return True

    def pad(self) -> bool:
        v = self.pick()
        d = len(v.shape) - 1
        if d == 0 or max(v.shape[1:]) > 6:
            return False
        shape = (v.shape[0], *v.shape[1:-1], v.shape[-1] + 2)
        self.new(shape, v.memory.bound, v.memory.grain, f"F.pad({v.name}, (1, 1))")
        return True

    # -- the whole ----------------------------------------------------------------------------

    def written(self, seed: int) -> Program:
        """A program."""
        rng = self.rng
        statements = {
            "layer": 5, "activation": 7, "arithmetic": 3, "write": 4, "alias": 3, "copy": 1,
            "norm": 1, "pool": 2, "flat": 1, "join": 1, "pad": 0.5, "part": 0.4,
            "strange": 0.5, "floored": 0.5, "of_parameters": 0.7,
        }  # fmt: skip
        wanted = rng.randint(4, 11)
        self.layer()
        for _ in range(60):
            if len(self.lines) >= wanted:
                break
            kind = rng.choices(list(statements), list(statements.values()))[0]
            if getattr(self, kind)():
                self.used[kind] += 1
        everything, self.variables = self.variables, self.variables[-1:]
        if not self.activation():  # one at least that the output needs
            raise ValueError("a value is too large or too fine for any quantizer")
        self.used["activation"] += 1
        self.variables = everything + self.variables[1:]
        last = self.variables[-1]
        if rng.random() < 0.7:
            if len(last.shape) > 1:
                self.lines.append(f"out = {last.name}.flatten(1)")
                last = Variable("out", (math.prod(last.shape),), last.memory)
                self.variables.append(last)
            self.variables = [last]
            if rng.random() < 0.2:
                self.of_parameters()
                self.used["of_parameters"] += 1
            else:
                self.layer(rng.choice([1] * 9 + [300]))  # more than 8 bits: rounded
            last = self.variables[-1]
        self.lines.append(f"return {last.name}")
        softmax = ""
        if len(last.shape) == 1 and rng.random() < 0.15:
            softmax = rng.choice(
                ["F.softmax({}, 1)", "F.log_softmax({}, dim=-1)", "torch.softmax({}, 1)"]
            )
        levels = {
            "relu": ((0, TOP), (1, 1)),
            "limited": ((0, 2 * self.limit << GRAIN), (1, 1)),
            "leaky": ((TOP, TOP), (2, 1)),
        }[self.family]
        options = {
            "levels": levels[0], "gains": levels[1], "init": "lsq", "input_scale": 1.0,
            "input_levels": self.levels, "per_channel": rng.random() < 0.2,
        }  # fmt: skip
        return Program(
            seed, self.modules, self.lines, options, self.shape, self.levels, self.used,
            rng.choice(["", "", "", "DataParallel", "compile", "double", "nested"]), softmax,
        )  # fmt: skip


def program(seed: int) -> Program:
    """The program of a seed, one that torch runs."""
    for attempt in range(100):
        number = seed * 100 + attempt
        try:
            found = Writer(number).written(number)
            x = found.inputs()
            with torch.no_grad():
                answer = found.model(with_softmax=False)(x.clone())
        except (RuntimeError, ValueError, IndexError):  # as a view without strides for it
            continue
        # torch itself must not round
        if answer.abs().max() < 2**20 and answer.std() > 0:
            return found
    raise AssertionError(f"seed {seed} gives no program")


def wrapped(model: nn.Module, wrapper: str) -> nn.Module:
    """A model as people have it."""
    if wrapper == "DataParallel":
        return nn.DataParallel(model)
    if wrapper == "compile":
        return torch.compile(model, backend="eager")  # type: ignore[return-value]
    if wrapper == "double":
        return model.double()
    if wrapper == "nested":
        return nn.Sequential(nn.Identity(), model)
    return model


def check(case: Program) -> str:
    """``"equal"``, ``"rounded"``, or the error that names an operation; else raises."""
    x = case.inputs()
    with torch.no_grad():
        wanted = case.model(with_softmax=False)(x.clone()).numpy()
    try:
        quantized = pnn.quantize(wrapped(case.model(), case.wrapper), calibration=x, **case.options)
        for module in quantized.modules():
            if isinstance(module, PolarityQuant):
                step = min(2.0**-GRAIN, getattr(module, "max_theta", math.inf))
                module.theta.data.fill_(step)
        network, report = convert(quantized, x, max_steps=1)
    except (QuantizationError, ConversionError) as error:
        kinds = ("operation ", "module ", "population ", "quantizer ", "input ", "output ")
        if not error.subject.startswith(kinds):
            raise WrongNumberError(f"an error that names nothing: {error}") from error
        return str(error)
    finally:
        for module in case.modules.values():
            module.float()
    ran = reference.run(network, x.numpy(), 1)
    (logits,) = ran.logits.values()
    off = float(np.abs(logits.reshape(wanted.shape) - wanted).max())
    stated = [p.drive_error for p in report.populations if p.drive_error]
    largest = max(float(np.abs(wanted).max()), 1.0)
    if not stated:
        if off > 1e-6 * largest:
            raise WrongNumberError(f"logits are off by {off:.3g} of {largest:.3g}, nothing rounds")
        return "equal"
    limit = 1.01 * (report.populations[-1].drive_error or 0.0) + 1e-6
    if any(p.differing_spikes for p in report.populations):
        limit = 0.05  # a spike falls on the other side, and changes what follows by a step
    if off > limit * largest:
        raise WrongNumberError(f"logits are off by {off:.3g} of {largest:.3g}, stated {stated}")
    return "rounded"


# ---------------------------------------------------------------------------------------------
# Without a mend
# ---------------------------------------------------------------------------------------------


@contextmanager
def without(mend: str | None, *, proof: bool = False) -> Iterator[None]:
    """Take the mend of a fault out, and unless ``proof`` the proofs that would refuse its results.

    ``A1`` in-place operations, ``A2`` in-place modules, ``A3`` ranges of activations, ``A4`` shapes
    that are taken for values, ``A5`` activations of parameters.
    """
    from pmsm_hw.convert import proof as convert_proof
    from pmsm_hw.nn import mutations, quantization, replacement
    from pmsm_hw.nn.lowering import graph as lowering

    patches: list[tuple[Any, str, Any]] = []
    if not proof:
        patches += [
            (quantization, "FLOAT32_TOLERANCE", math.inf),
            (convert_proof, "FLOAT64_TOLERANCE", math.inf),
            (convert_proof, "OWN_TOLERANCE", math.inf),
        ]
    if mend == "A1":

        def dropped(root: Any, graph: Any, *args: Any, **kwargs: Any) -> None:
            graph.eliminate_dead_code(lambda node: node.op in ("placeholder", "output"))

        patches += [(m, "without_mutations", dropped) for m in (quantization, lowering)]
    elif mend == "A2":
        rewrite = mutations._rewrite

        def blind(root: Any, graph: Any, node: Any, *args: Any) -> None:
            if node.op != "call_module":
                rewrite(root, graph, node, *args)

        patches.append((mutations, "_rewrite", blind))
    elif mend == "A3":
        patches.append((replacement, "kept_limits", lambda *args: (-math.inf, math.inf)))
    elif mend == "A4":
        evaluate = lowering.Lowering._evaluate

        def shape_for_value(self: Any, builder: Any, node: Any, values: Any) -> Any:
            if node.target in (operator.floordiv, getattr):
                seen = self.results[node]
                return tuple(seen.shape) if isinstance(seen, lowering.Seen) else seen
            return evaluate(self, builder, node, values)

        patches.append((lowering.Lowering, "_evaluate", shape_for_value))
    elif mend == "A5":
        patches += [(m, "reached", lambda graph: set(graph.nodes)) for m in (replacement, lowering)]
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in patches]
    for owner, name, value in patches:
        setattr(owner, name, value)
    try:
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)


def main() -> int:
    """Run many, print what became of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep-going", action="store_true", help="do not stop at a failure")
    parser.add_argument("--without", choices=["A1", "A2", "A3", "A4", "A5"], help="take a mend out")
    parser.add_argument("--proof", action="store_true", help="but leave the proofs in")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    outcomes: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    used: Counter[str] = Counter()
    failed = 0
    for seed in range(args.seed, args.seed + args.cases):
        case = program(seed)
        used.update(case.used.keys())
        try:
            with without(args.without, proof=args.proof or args.without is None):
                outcome = check(case)
        except Exception as error:
            if args.without and not isinstance(error, WrongNumberError):
                outcomes["another error"] += 1
                continue
            failed += 1
            print(f"seed {seed}: {type(error).__name__}: {error}\n{case.source}\n{case.options}")
            print({n: m for n, m in case.modules.items() if n in case.source}, case.wrapper)
            if not args.keep_going:
                return 1
            continue
        if outcome not in ("equal", "rounded"):
            reasons[outcome.split("; ")[0].split(": ", 1)[-1][:70]] += 1
            outcome = "refused by name"
        outcomes[outcome] += 1
    print(f"{args.cases} programs from seed {args.seed}: {dict(outcomes)}, {failed} failed")
    print("statements:", ", ".join(f"{k} in {v}" for k, v in used.most_common()))
    for reason, n in reasons.most_common(40):
        print(f"  {n:4d} x {reason}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

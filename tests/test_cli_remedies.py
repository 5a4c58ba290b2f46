"""Remedies of the Python API are said in options where the command line has one."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from fuzz_command_line import commands

from pmsm_hw.cli.remedies import CALLS, WORDS, in_cli_terms, options_of

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    ("python", "command_line"),
    [
        (
            "quantize the model first: model = pmsm_hw.nn.quantize(model, levels=(0, 4), "
            "init='mse', calibration=x)",
            "quantize the model first: give --levels, as in 0,15",
        ),
        (
            "use nn.AvgPool2d, or quantize(..., max_pool='average') and fine-tune",
            "use nn.AvgPool2d, or --max-pool average and fine-tune",
        ),
        (
            "use nn.AvgPool2d and train again, or, in Python, quantize(..., max_pool='average')",
            "use nn.AvgPool2d and train again, or --max-pool average",
        ),
        (
            "quantize it: convert(..., input_scale=1/255, input_levels=(0, 255))",
            "quantize it: --input-scale 0.0039, --input-levels 0,255",
        ),
        (
            "use fewer weight_bits, max_steps or input levels, or overflow='saturate'",
            "use fewer --weight-bits, --max-steps or input levels",
        ),
        (
            "use a larger chip; in Python, pmsm_hw.mapping.split_fan_in(network, chip) splits its "
            "fan-in",
            "use a larger chip; --split-fan-in splits it",
        ),
        ("emulate with mode='cycle' and trace=True", "emulate with --mode cycle and --trace"),
        (
            "give a larger timeout_s or fewer samples",
            "give a larger --timeout-s or fewer samples (--timeout-s: of pmsm-hw lava)",
        ),
        ("give a file that save_model wrote", "give a file that save_model wrote"),
        ("use the model that the values were trained with",) * 2,
    ],
)
def test_remedies(python, command_line):
    said = in_cli_terms(f"x: max_steps 3; {python}", ["run", "net.h5"])
    assert said == f"x: max_steps 3; {command_line}"
    assert in_cli_terms("no remedy: max_steps", ["run"]) == "no remedy: max_steps"


@pytest.mark.parametrize(
    ("words", "of"),
    [
        (["run", "mine:make"], ""),
        (["convert", "mine:make", "-o", "map"], ""),
        (["compare", "mine:make"], " (--weight-bits, --max-steps: of pmsm-hw run)"),
        (["map", "net.h5"], " (--weight-bits: of pmsm-hw run)"),
        (["chips", "show", "toy"], " (--weight-bits, --max-steps: of pmsm-hw run)"),
        ([], " (--weight-bits, --max-steps: of pmsm-hw run)"),
    ],
)
def test_the_command_that_has_an_option_is_said(words, of):
    said = in_cli_terms("x: y; use fewer weight_bits or max_steps", words)
    assert said == f"x: y; use fewer --weight-bits or --max-steps{of}"


def product_files():
    for folder in ("pmsm_hw", "mapping", "emulator", "datasets"):
        yield from sorted((ROOT / folder).rglob("*.py"))


def remedies():
    for path in product_files():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.keyword) and node.arg == "remedy":
                parts = [n.value for n in ast.walk(node.value) if isinstance(n, ast.Constant)]
                yield path.name, " ".join(p for p in parts if isinstance(p, str))


def texts():
    """Every text of the product, as it is said; what is put in is left out."""
    for path in product_files():
        if path.name != "remedies.py":
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield node.value
                elif isinstance(node, ast.JoinedStr):
                    yield "".join(
                        part.value if isinstance(part, ast.Constant) else "X"
                        for part in node.values
                    )


def test_no_parameter_of_an_option_is_left_in_a_remedy():
    """Whatever is written later in the library: a parameter that is an option is said as one."""
    known = options_of()
    names = {name for options in known.values() for name in options if "_" in name}
    assert {"max_steps", "weight_bits", "input_levels"} <= names
    n = 0
    for path, remedy in remedies():
        for command, options in known.items():
            said = in_cli_terms(f"x: y; {remedy}", command.split())
            left = set(re.findall(r"(?<![-\w.])[a-z]+(?:_[a-z]+)+(?![\w.(])", said)) & names
            assert not left, (path, said)
            assert "in Python, --" not in said
            if "pmsm-hw" not in said:
                assert set(re.findall(r"--[a-z][a-z-]*", said)) <= set(options.values()), said
            n += said != f"x: y; {remedy}"
    assert n > 5


def test_every_phrase_is_said_somewhere():
    every = list(texts())
    for pattern, _ in CALLS + WORDS:
        if not pattern.startswith(r"\bpass --"):  # of "pass calibration=x"
            assert any(re.search(pattern, text) for text in every), pattern


def test_help_names_options_of_its_own_command():
    known = options_of()
    n = 0
    for name, command in commands():
        words = next(w for w in known if w.split()[-1:] == [name])
        for option in command.params:
            said = set(re.findall(r"--[a-z][a-z-]*", getattr(option, "help", None) or ""))
            assert said <= set(known[words].values()), (words, option.name, said)
            n += len(said)
    assert n > 5

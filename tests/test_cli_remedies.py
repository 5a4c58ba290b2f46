"""Remedies of the Python API are said in options where the command line has one."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from pmsm_hw.cli.remedies import PHRASES, in_cli_terms, option_names

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
            "quantize it: convert(..., input_scale=1/255, input_levels=(0, 255))",
            "quantize it: --input-scale 0.0039, --input-levels 0,255",
        ),
        (
            "use fewer weight_bits or max_steps, or overflow='saturate'",
            "use fewer --weight-bits or --max-steps",
        ),
        (
            "use a larger chip; in Python, pmsm_hw.mapping.split_fan_in(network, chip) splits its "
            "fan-in",
            "use a larger chip; --split-fan-in splits it",
        ),
        ("emulate with mode='cycle' and trace=True", "emulate with --mode cycle and --trace"),
        ("give a larger timeout_s or fewer samples", "give a larger --timeout-s or fewer samples"),
        ("give a file that save_model wrote", "give a file that save_model wrote"),
        ("use the model that the values were trained with",) * 2,
    ],
)
def test_remedies(python, command_line):
    assert in_cli_terms(f"x: max_steps 3; {python}") == f"x: max_steps 3; {command_line}"
    assert in_cli_terms("no remedy: max_steps") == "no remedy: max_steps"


def remedies():
    for folder in ("pmsm_hw", "mapping", "emulator", "datasets"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.keyword) and node.arg == "remedy":
                    parts = [n.value for n in ast.walk(node.value) if isinstance(n, ast.Constant)]
                    yield path.name, " ".join(p for p in parts if isinstance(p, str))


def test_no_parameter_of_an_option_is_left_in_a_remedy():
    """Whatever is written later in the library: a parameter that is an option is said as one."""
    names = {name for name in option_names() if "_" in name}
    assert {"max_steps", "weight_bits", "input_levels"} <= names
    n = 0
    for path, remedy in remedies():
        said = in_cli_terms(f"x: y; {remedy}")
        left = set(re.findall(r"(?<![-\w.])[a-z]+(?:_[a-z]+)+(?![\w.(])", said)) & names
        assert not left, (path, said)
        n += said != f"x: y; {remedy}"
    assert n > 5


def test_every_phrase_is_said_somewhere():
    from pmsm_hw.lava.interpreter import REMEDY
    from pmsm_hw.mapping.partition import tiling

    text = " ".join(remedy for _, remedy in remedies()) + REMEDY
    text += Path(tiling.__file__).read_text()
    for path in (ROOT / "pmsm_hw" / "nn").glob("*.py"):
        text += path.read_text()
    for pattern, _ in PHRASES:
        if not pattern.startswith(r"\bpass --"):
            assert re.search(pattern, text), pattern

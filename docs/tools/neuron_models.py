"""The page docs/neurons.md, from what models declare.

``python docs/tools/neuron_models.py --write`` writes it.

``tests/test_documented.py`` holds that the committed page is what this gives.
"""

from __future__ import annotations

import argparse
import inspect
import sys
from collections.abc import Iterable
from pathlib import Path

from pmsm_hw.emulator.layout.neurons import FUSED
from pmsm_hw.io.nir_neurons import NIR
from pmsm_hw.lava.neurons import LAVA
from pmsm_hw.neurons import Neurons, Parameter, models
from pmsm_hw.reference.neurons import KERNELS

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "neurons.md"

INTRODUCTION = """\
# Neuron models

What a population does in a step is its neuron model. A model declares its parameters, its state
variables and its step; the step in plain numpy is the definition, and every backend is tested
against it with random parameters out to the ends of their ranges
(`tests/test_neuron_models.py`). [Architecture](architecture.md#a-neuron-model-of-your-own) says how
to add one. What populations and projections do together is the contract, in the docstring of
`pmsm_hw/network/__init__.py`.

<!-- written by docs/tools/neuron_models.py -->
"""

BACKENDS = """\
## Where each runs

*Own kernel* is a specialised and fast one; *plain step* is the model's own step in numpy, exact and
slower. A backend that has nothing for a model refuses it by name.

"""

PER = {
    "population": "population",
    "channel": "population or channel",
    "neuron": "population, channel or neuron",
}


def page() -> str:
    """The whole page."""
    parts = [INTRODUCTION]
    parts += [_section(model) for model in models().values()]
    kernels = {
        "reference": KERNELS.kinds,
        "emulator, counts mode": KERNELS.kinds,
        "emulator, cycle mode": FUSED.kinds,
    }
    known = {"torch": _in_torch(), "Lava": LAVA.kinds, "NIR": NIR.kinds}
    rows = [
        [
            f"`{kind}`",
            *("own kernel" if kind in kinds else "plain step" for kinds in kernels.values()),
            *("yes" if kind in kinds else "refused" for kinds in known.values()),
            "yes",
            "yes",
        ]
        for kind in models()
    ]
    head = ["model", *kernels, *known, ".h5", "bounds"]
    parts.append(BACKENDS + _table(head, rows))
    return "\n".join(parts)


def _in_torch() -> tuple[str, ...]:
    """Models that torch has a module for: files of their names, for torch may not be here."""
    loihi = {path.stem for path in (ROOT / "pmsm_hw" / "nn" / "loihi").glob("*.py")}
    return ("polarity_multi_spike", *(kind for kind in models() if kind in loihi))


def _section(model: type[Neurons]) -> str:
    declared = model.model
    first = (inspect.getdoc(model) or "").splitlines()[0]
    parameters = [
        [f"`{p.name}`", p.meaning, _type(p), p.range, PER[p.per], _default(model, p)]
        for p in declared.parameters
    ]
    states = [
        [
            f"`{v.name}`",
            v.meaning,
            f"{v.bits}",
            "{:,} to {:,}".format(*v.limits),
            {"never": "excluded"}.get(v.beyond, f"{v.beyond}s"),
        ]
        for v in declared.states
    ]
    core = ", ".join(f"`{name}`" for name in declared.core_parameters)
    sets = (
        f"A core holds as many distinct sets of {core} as the chip's limit "
        "`threshold_configurations` says."
        if core
        else "It takes none of a core's parameter sets."
    )
    if declared.compartments > 1:
        sets += f" Each neuron takes {declared.compartments} of its compartments."
    return "\n".join(
        [
            f"## {model.__name__}\n",
            f"`{model.kind}`. {first}\n",
            *(f"    {line}" for line in declared.equations),
            "",
            _table(["parameter", "", "type", "range", "one per", "default"], parameters),
            _table(["state", "", "bits", "range", "beyond"], states),
            f"{sets}\n",
        ]
    )


def _type(parameter: Parameter) -> str:
    if parameter.type == "integers":
        return f"{len(parameter.limits)} integers"
    return parameter.type


def _default(model: type[Neurons], parameter: Parameter) -> str:
    from pmsm_hw.network.fields import defaults_of

    if parameter.derived is not None:
        return "from the others"
    defaults = defaults_of(model.kind)
    return f"{defaults[parameter.name]}" if parameter.name in defaults else ""


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def main() -> int:
    """Print the page, or write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write docs/neurons.md")
    if parser.parse_args().write:
        PAGE.write_text(page(), encoding="utf-8")
    else:
        sys.stdout.write(page())
    return 0


if __name__ == "__main__":
    sys.exit(main())

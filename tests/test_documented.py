"""Everything public is documented: names of the front doors, their parameters, CLI options."""

from __future__ import annotations

import importlib
import inspect
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[1] / "docs" / "tools"
API = TOOLS.parent / "api"

FRONT_DOORS = {
    "pmsm_hw": None,
    "pmsm_hw.neurons": None,
    "pmsm_hw.reference": None,
    "pmsm_hw.nn": "torch",
    "pmsm_hw.nn.models": "torch",
    "pmsm_hw.convert": "torch",
    "pmsm_hw.io": None,
    "pmsm_hw.mapping": None,
    "pmsm_hw.emulator": None,
    "pmsm_hw.lava": None,
    "pmsm_hw.datasets": None,
    "pmsm_hw.errors": None,
    "pmsm_hw.report": None,
    "pmsm_hw.demo": None,
    "pmsm_hw.tables": None,
}
"""What users import from, and the package that it needs."""

NEEDS_LAVA = {"LavaNetwork", "to_lava"}


def described(doc):
    """Names in the Parameters and Attributes sections of a numpydoc docstring."""
    names = set()
    for section in re.split(r"\n(?=[A-Z][A-Za-z ]+\n-{3,}\n)", inspect.cleandoc(doc or "")):
        found = re.match(r"(Parameters|Attributes)\n-+\n", section)
        for line in section[found.end() :].splitlines() if found else ():
            if line and not line[0].isspace():
                names |= {n.strip().lstrip("*") for n in line.split(":")[0].split(",")}
    return names


def parameters_of(function):
    return [
        n
        for n in inspect.signature(function).parameters
        if n not in ("self", "cls") and n[0] != "_"
    ]


def problems_of(name, thing):
    """What a function or class, with its public members, leaves undocumented."""
    if not (thing.__doc__ or "").strip():
        return [f"{name} has no docstring"]
    if inspect.isclass(thing):
        return list(dict.fromkeys(_class_problems(name, thing)))
    missing = set(parameters_of(thing)) - described(thing.__doc__)
    return [f"{name} does not describe {', '.join(sorted(missing))}"] if missing else []


def _class_problems(name, thing):
    own = [c for c in thing.__mro__ if c.__module__.startswith("pmsm_hw")]
    known = set().union(*(described(c.__doc__) for c in own))
    # an exception or class without an __init__ of ours takes what its base takes
    if any("__init__" in vars(c) or hasattr(c, "__dataclass_fields__") for c in own):
        missing = set(parameters_of(thing)) - known
        if missing:
            yield f"{name} does not describe {', '.join(sorted(missing))}"
    for cls in own:
        for word, member in vars(cls).items():
            if word.startswith("_"):
                continue
            if isinstance(member, property) or hasattr(member, "attrname"):
                if not (getattr(member, "__doc__", "") or "").strip():
                    yield f"{name}.{word} has no docstring"
                continue
            function = getattr(member, "__func__", member)
            if not inspect.isfunction(function):
                continue
            docs = [getattr(c, word).__doc__ for c in own if hasattr(c, word)]
            if not (function.__doc__ or "").strip():
                yield f"{name}.{word} has no docstring"
                continue
            # a method may leave its parameters to the method that it overrides
            missing = set(parameters_of(function)) - set().union(*map(described, docs))
            if missing:
                yield f"{name}.{word} does not describe {', '.join(sorted(missing))}"


@pytest.mark.parametrize(
    "door", [door for door, needs in FRONT_DOORS.items() if needs is None or find_spec(needs)]
)
def test_everything_public_is_documented(door):
    module = importlib.import_module(door)
    assert (module.__doc__ or "").strip()
    problems = []
    for name in module.__all__:
        if name in NEEDS_LAVA and find_spec("lava") is None:
            continue
        thing = getattr(module, name)
        if inspect.isclass(thing) or inspect.isroutine(thing):
            problems += problems_of(f"{door}.{name}", thing)
    assert not problems, "\n".join(problems)


def test_every_front_door_has_a_page():
    pages = "\n".join(p.read_text() for p in API.glob("*.md"))
    for door in FRONT_DOORS:
        if door != "pmsm_hw.tables":
            assert f"::: {door}\n" in pages, door


def test_what_is_missing_is_found():
    def no_text(x):
        pass

    def no_parameter(x, y):
        """Do it.

        Parameters
        ----------
        x
            One.
        """

    class Thing:
        """A thing.

        Parameters
        ----------
        a
            One.
        """

        __module__ = "pmsm_hw.thing"

        def __init__(self, a, b):
            pass

        @property
        def size(self):
            return 0

        def move(self, to):
            """Move it."""

    assert problems_of("f", no_text) == ["f has no docstring"]
    assert problems_of("f", no_parameter) == ["f does not describe y"]
    assert problems_of("T", Thing) == [
        "T does not describe b",
        "T.size has no docstring",
        "T.move does not describe to",
    ]


@pytest.fixture
def reference(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module("cli_reference")


def test_every_command_and_option_has_a_text(reference):
    assert reference.undocumented() == []


def test_the_page_of_the_command_line_is_up_to_date(reference):
    remedy = "python docs/tools/cli_reference.py --write"
    assert reference.PAGE.read_text(encoding="utf-8") == reference.page(), remedy
    for name, command in reference.commands():
        for parameter in reference.parameters(command):
            if name != "pmsm-hw":
                assert f"`{reference.words_of(parameter)}`" in reference.page()


def test_the_page_of_neuron_models_is_what_they_declare(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    models = importlib.import_module("neuron_models")
    remedy = "python docs/tools/neuron_models.py --write"
    assert models.PAGE.read_text(encoding="utf-8") == models.page(), remedy


def test_an_option_without_a_text_is_found(reference, monkeypatch):
    import typer

    app = typer.Typer()

    @app.command()
    def one(plain: int = 0, told: int = typer.Option(0, help="Told.")) -> None:
        """Do one thing."""

    @app.command()
    def two() -> None:
        pass

    monkeypatch.setattr(reference, "app", app)
    assert reference.undocumented() == ["pmsm-hw", "pmsm-hw one: --plain PLAIN", "pmsm-hw two"]

"""Models of the user's own on the command line: their mistakes are one line and status 2."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
from in_process import call, refused

torch = pytest.importorskip("torch", reason="needs torch")

from pmsm_hw import io, nn  # noqa: E402
from pmsm_hw.cli.models import Opened, notes_of  # noqa: E402
from pmsm_hw.convert import convert, integer_model, save_model  # noqa: E402
from pmsm_hw.datasets import load_digits  # noqa: E402

MINE = """
import sys
from torch import nn
print("printed by the module")

class Small(nn.Sequential):
    def __init__(self):
        print("printed by the model")
        super().__init__(nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 10))

    def forward(self, x):
        print("printed by forward")
        return super().forward(x)

model = nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 10))

def pooled():
    layers = nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 10)
    return nn.Sequential(*layers)

def events():
    return nn.Sequential(nn.Conv2d(2, 4, 9, stride=8), nn.ReLU(), nn.Flatten(), nn.Linear(64, 10))

def large():
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 12), nn.ReLU(), nn.Linear(12, 10))

class Larger(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right, self.out = (nn.Linear(3, 3) for _ in range(3))
        self.act = nn.ReLU()
        for layer in (self.left, self.right, self.out):
            nn.init.eye_(layer.weight)
            nn.init.constant_(layer.bias, float(layer is self.right))

    def forward(self, first, second):
        return self.out(self.act(self.right(second) - self.left(first)))

def unsure():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 9), nn.ReLU(), nn.Linear(9, 10), nn.Softmax(1))

def needs(size, classes=10):
    return Small()

def raises():
    raise ValueError("not\\ntoday")

def exits():
    sys.exit(5)

class Exits(nn.Module):
    def forward(self, x):
        sys.exit(3)

number = 3
"""


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mine")
    (folder / "mine.py").write_text(MINE)
    (folder / "syntax.py").write_text("def make(:\n")
    (folder / "leaves.py").write_text("import sys\nsys.exit(5)\n")
    (folder / "fails.py").write_text("x = 1\nx / 0\n")
    (folder / "asks.py").write_text("import nothing_of_this_name\n")
    torch.manual_seed(0)
    plain = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(64, 12), torch.nn.ReLU(), torch.nn.Linear(12, 10)
    )
    torch.save(plain.state_dict(), folder / "mine.pt")
    torch.save({"elsewhere": torch.zeros(2)}, folder / "other.pt")
    torch.save({3: "x"}, folder / "odd.pt")
    torch.save([1], folder / "list.pt")
    np.savez(folder / "wide.npz", x=np.zeros((3, 1, 28, 29), np.float32))
    # an N-MNIST recording: 40 bits an event, time in the last 23
    rng = np.random.default_rng(0)
    rows = [
        bytes([x, y, 0x80 | t >> 16, t >> 8 & 255, t & 255])
        for t, (x, y) in zip(
            range(0, 200_000, 1000), rng.integers(0, 34, (200, 2)).tolist(), strict=True
        )
    ]
    (folder / "rec.bin").write_bytes(b"".join(rows))
    return folder


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("mine:large", ("digits-train", "1x8x8", "--calibration")),
        ("mine:Small --data rec.bin --n-steps 4", ("rec.bin", "2x34x34", "--data")),
        ("mine:Small --data wide.npz", ("wide.npz", "1x28x29")),
        ("syntax:make", ("syntax error", "syntax.py, line 1")),
        ("leaves:make", ("calls sys.exit(5)", "leaves.py, line 2")),
        ("fails:make", ("ZeroDivisionError", "division by zero", "fails.py, line 2")),
        ("asks:make", ("nothing_of_this_name", "asks.py, line 1")),
        ("absent:make", ("there is no module 'absent'",)),
        ("mine:absent", ("'mine' has no 'absent'",)),
        ("mine:number", ("gives a int",)),
        ("mine:needs", ("'size'", "defaults")),
        ("mine:raises", ("ValueError", "not today", "mine.py, line")),
        ("mine:exits", ("calls sys.exit(5)",)),
        ("mine:Exits", ("SystemExit", "1x8x8")),
        ("./mine.py:Small", ("give mine:Small",)),
        ("mine.py:Small", ("give mine:Small",)),
        ("sub/mine.py:Small", ("give mine:Small, called in sub",)),
        ("mine:", ("package.module:function",)),
        ("mine:Small --state-dict other.pt", ("other.pt", "elsewhere")),
        ("mine:Small --state-dict odd.pt", ("odd.pt",)),
        ("mine:Small --state-dict list.pt", ("holds a list",)),
        ("mine:Small --state-dict nowhere.pt", ("nowhere.pt",)),
        ("mine:Small --data random", ("random", "--calibration")),
        ("mine:Small --calibration nowhere.npz", ("nowhere.npz",)),
        ("mine:pooled", ("MaxPool2d",)),
    ],
)
def test_mistakes_are_one_line(mine, given, words):
    module, *rest = given.split()
    line = refused("run", module, "--levels", "0,15", *rest, cwd=mine)
    for word in words:
        assert word in line


def test_convert_of_another_shape_without_calibration(mine):
    assert "1x8x8" in refused("convert", "mine:large", "--levels", "0,4", "-o", "x.h5", cwd=mine)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--gains 1,1", ("--gains", "--levels")),
        ("--per-channel", ("--per-channel", "--levels")),
        ("--max-pool average", ("--max-pool", "--levels")),
        ("--levels 0,4 --max-pool maximum", ("'maximum'",)),
        ("--levels 0,4 --seed -1", ("-1", "0..4294967295")),
        ("--levels 0,4 --limit 2147483648", ("2147483648",)),
        ("--levels 0,4 --limit 0", ("0 is outside 1",)),
        ("--levels 0,4 --n-steps 2147483648", ("2147483648",)),
        ("--levels 0,4 --n-steps 9", ("9 steps exceed", "8", "--max-steps")),
        ("--levels 0,4 --weight-bits 9", ("9 is outside 2..8",)),
        ("--levels 0,4 --max-steps 4097", ("4097",)),
        ("--levels 0,4 --input-levels 3", ("--input-levels",)),
    ],
)
def test_options_out_of_range_or_without_effect(mine, options, words):
    line = refused("run", "mine:Small", *options.split(), cwd=mine)
    for word in words:
        assert word in line


def test_an_integer_model_keeps_its_settings(mine, tmp_path):
    x = load_digits("train").images[:64]
    model = nn.quantize(nn.models.build("mlp", seed=0, sizes=(64, 8, 10)), (0, 4), calibration=x)
    save_model(tmp_path / "integer.pt", integer_model(model, x))
    for option in ("--weight-bits 4", "--max-steps 2", "--calibration digits", "--levels 0,4"):
        line = refused("convert", "integer.pt", *option.split(), "-o", "x.h5", cwd=tmp_path)
        assert option.split()[0] in line
    done = call("convert", "integer.pt", "--name", "mine", "-o", "x.h5", cwd=tmp_path)
    assert done.status == 0, done.stderr
    assert io.load(tmp_path / "x.h5").name == "mine"


def test_what_the_users_code_prints_is_no_answer(mine):
    given = ("mine:Small", "--levels", "0,15", "--limit", 5, "--json")
    done = call("run", *given, cwd=mine)
    assert done.status == 0, done.stderr
    assert json.loads(done.stdout)["n_samples"] == 5
    for word in ("the module", "the model", "forward"):
        assert f"printed by {word}" in done.stderr


def test_an_instance_is_a_model(mine):
    done = call("run", "mine:model", "--levels", "0,15", "--limit", 2, cwd=mine)
    assert done.status == 0, done.stderr


def test_events_are_calibrated_frame_by_frame(mine):
    done = call(
        "run", "mine:events", "--levels", "0,4", "--data", "rec.bin", "--n-steps", 4, "--json",
        cwd=mine,
    )  # fmt: skip
    assert done.status == 0, done.stderr
    assert json.loads(done.stdout)["n_steps"] == 4


def test_integers_of_a_file_are_the_values_that_the_model_takes(mine):
    """Not units: those are for network files."""
    x, labels = load_digits("test").images[:40], load_digits("test").labels[:40]
    sixteenths = np.rint(x * 16).astype(np.int64)
    np.savez(mine / "int.npz", x=sixteenths, labels=labels)
    np.savez(mine / "float.npz", x=sixteenths.astype(np.float32), labels=labels)
    options = ("--state-dict", "mine.pt", "--levels", "0,15", "--json")
    as_int, as_float = (
        json.loads(call("run", "mine:model", "--data", f, *options, cwd=mine).stdout)
        for f in ("int.npz", "float.npz")
    )
    assert as_int == as_float
    os.remove(mine / "int.npz")


def test_accuracy_of_what_came_in_and_of_what_it_became(mine):
    digits = load_digits("test")
    given = ("mine:model", "--state-dict", "mine.pt", "--levels", "0,15", "--limit", 60)
    done = call("run", *given, "--json", cwd=mine)
    assert done.status == 0, done.stderr
    answer = json.loads(done.stdout)
    plain = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(64, 12), torch.nn.ReLU(), torch.nn.Linear(12, 10)
    )
    plain.load_state_dict(torch.load(mine / "mine.pt", weights_only=True))
    x, labels = digits.images[:60], digits.labels[:60]
    quantized = nn.quantize(plain, (0, 15), calibration=load_digits("train").images[:256])
    network, _ = convert(quantized, load_digits("train").images[:256])
    with torch.no_grad():
        first, second = (m(torch.from_numpy(x)).argmax(1).numpy() for m in (plain, quantized))
    third = np.array(answer["predictions"])
    assert [s["stage"] for s in answer["stages"]] == [
        "torch model as given", "quantized, --levels 0,15", "integer network, T = 1",
    ]  # fmt: skip
    for stage, k in zip(answer["stages"], (first, second, third), strict=True):
        assert stage["accuracy"] == (k == labels).mean()
        assert stage["same_predictions"] == (k == first).mean()
    assert network.fingerprint == answer["fingerprint"]
    assert answer["stages"][2]["accuracy"] == answer["accuracy"]
    shown = call("run", *given, cwd=mine).stdout
    assert "torch model as given" in shown
    assert f"{answer['accuracy']:.2%}" in shown
    np.save(mine / "unlabelled.npy", x)
    shown = call("run", "mine:model", "--levels", "0,15", "--data", "unlabelled.npy", cwd=mine)
    assert "no labels" in shown.stdout


def test_inputs_are_taken_by_name(tmp_path):
    """In whatever order a file has them."""
    rng = np.random.default_rng(0)
    first, second = rng.random((2, 40, 3), np.float32)
    expected = (second - first).argmax(1)
    (tmp_path / "mine.py").write_text(MINE)
    np.savez(tmp_path / "ab.npz", first=first, second=second, labels=expected)
    np.savez(tmp_path / "ba.npz", second=second, first=first, labels=expected)
    answers = []
    for name in ("ab.npz", "ba.npz"):
        given = ("mine:Larger", "--levels", "0,31", "--data", name)
        done = call("run", *given, "--json", cwd=tmp_path)
        assert done.status == 0, done.stderr
        answers.append(json.loads(done.stdout))
    assert answers[0] == answers[1]
    assert answers[0]["stages"][0]["accuracy"] == 1
    assert answers[0]["accuracy"] > 0.9
    np.savez(tmp_path / "others.npz", a=first, b=second)
    given = ("run", "mine:Larger", "--levels", "0,31", "--data")
    line = refused(*given, "others.npz", cwd=tmp_path)
    assert "data 'others.npz': has arrays 'a', 'b', the arguments of model" in line
    assert "are 'first', 'second'; name each array" in line
    np.savez(tmp_path / "one.npz", first=first)
    line = refused(*given, "one.npz", cwd=tmp_path)
    assert "missing 1 required positional argument: 'second'" in line


def test_what_a_conversion_notes_is_said_wherever_its_network_goes(mine, tmp_path):
    note = "note: "
    given = ("mine:unsure", "--levels", "0,15")
    done = call("convert", *given, "--name", "unsure", "-o", tmp_path / "net.h5", cwd=mine)
    assert done.status == 0, done.stderr
    notes = io.load_report(tmp_path / "net.h5")["notes"]
    assert len(notes) == 1
    assert "oftmax" in notes[0]
    assert notes[0] in done.stdout
    note += notes[0]
    assert call("map", "net.h5", "-o", "mapped.h5", cwd=tmp_path).status == 0
    for words, folder in (
        (("run", *given), mine), (("run", "net.h5"), tmp_path),
        (("emulate", "mapped.h5"), tmp_path),
        (("compare", "net.h5", "--chip", "loihi1", "--chip", "loihi2"), tmp_path),
        (("lava", "net.h5"), tmp_path),
    ):  # fmt: skip
        done = call(*words, "--limit", 4, cwd=folder)
        assert done.status == 0, done.stderr
        assert done.stderr.count(note) == 1, (words, done.stderr)
    report = {"notes": 3, "warnings": ["warning: much is lost"]}  # of a file: anything
    opened = Opened(network=io.load(tmp_path / "net.h5"), mapping=None, conversion=report)
    assert notes_of(opened) == ["warning: much is lost"]

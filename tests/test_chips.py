"""Chip files: what ships is sound, what is malformed is refused in one line."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pmsm_hw.errors import ChipFileError
from pmsm_hw.mapping import chip as chip_module
from pmsm_hw.mapping import chip_names, load_chip
from pmsm_hw.mapping.chip import parse_chip


@pytest.mark.parametrize("name", chip_names())
def test_every_shipped_chip_loads_and_states_its_sources(name):
    chip = load_chip(name)
    assert chip.name == name
    quantities = dict(chip.quantities())
    assert quantities["limits.neurons"].value == chip.limits.neurons.value
    for key, q in quantities.items():
        assert q.source.strip(), key
        assert q.kind in ("measured", "simulated", "assumed"), key
    summary = chip.summary()
    for key in quantities:
        assert key in summary
    assert parse_chip(chip.to_dict()) == chip


def golden(name):
    with (Path(__file__).parent / "data" / name).open(newline="") as file:
        return list(csv.DictReader(file))


def test_davies_profile_equals_the_published_table():
    table = {row["quantity"]: float(row["value"]) for row in golden("davies2018_table2.csv")}
    profile = load_chip("loihi1").profile("davies2018")
    e, t = profile.energy, profile.time
    for ours, theirs in (
        (e.within_tile, "within-tile spike energy"),
        (t.within_tile, "within-tile spike latency"),
        (e.hop_east, "energy per tile hop E-W"),
        (e.hop_west, "energy per tile hop E-W"),
        (e.hop_north, "energy per tile hop N-S"),
        (e.hop_south, "energy per tile hop N-S"),
        (t.hop_east, "latency per tile hop E-W"),
        (t.hop_west, "latency per tile hop E-W"),
        (t.hop_north, "latency per tile hop N-S"),
        (t.hop_south, "latency per tile hop N-S"),
        (e.neuron_active, "energy per neuron update active"),
        (e.neuron_idle, "energy per neuron update inactive"),
        (t.neuron_active, "time per neuron update active"),
        (t.neuron_idle, "time per neuron update inactive"),
        (e.synaptic_operation, "energy per synaptic spike op (min)"),
        (t.synaptic_operation, "time per synaptic spike op (max)"),
    ):
        assert ours.value == table[theirs], theirs
    assert t.barrier_ns(1) == table["mesh-wide barrier sync 1 tile"]
    assert t.barrier_ns(32) == table["mesh-wide barrier sync 32 tiles"]
    assert e.packet_out is None  # not published: absent, not zero


def test_sanafe_profile_equals_its_constants():
    rows = golden("sanafe_loihi_constants.csv")
    table = {row["unit"]: (float(row["energy_pJ"]), float(row["latency_ns"])) for row in rows}
    profile = load_chip("loihi1").profile("sanafe")

    def pair(event):
        return getattr(profile.energy, event).value, getattr(profile.time, event).value

    assert pair("synaptic_operation_dense") == table["synapse dense (per lookup)"]
    assert pair("synaptic_operation_sparse") == table["synapse sparse (per lookup)"]
    assert pair("synaptic_operation_conv") == table["synapse conv (per lookup)"]
    access = table["soma access (every neuron every step)"]
    update = table["soma update (added when active)"]
    assert pair("neuron_idle") == access
    assert pair("neuron_active") == pytest.approx(
        [a + b for a, b in zip(access, update, strict=True)]
    )
    assert pair("spike") == table["soma spike out (added when fired)"]
    assert pair("packet_out") == table["axon out (per packet)"]
    assert pair("packet_in") == table["axon in (per packet)"]
    assert pair("hop_east") == pair("hop_west") == table["hop E/W"]
    assert pair("hop_north") == pair("hop_south") == table["hop N/S"]
    barrier = [profile.time.barrier_ns(n) for n in (1, 2, 4, 29)]
    assert barrier == [600, 1000, 1400, 1800]


def test_synaptic_falls_back_to_the_general_constant():
    davies, sanafe = (load_chip("loihi1").profile(p).energy for p in ("davies2018", "sanafe"))
    assert davies.synaptic("conv").value == 23.6
    assert sanafe.synaptic("conv").value == 24.0


def test_barrier_is_linear_between_its_points_and_held_beyond():
    time = load_chip("toy").profile().time
    assert time.barrier_ns(1) == 100
    assert time.barrier_ns(4) == 100 + 3 * 10
    assert time.barrier_ns(100) == 170


def test_geometry():
    chip = load_chip("loihi1")
    assert (chip.columns, chip.rows, chip.n_cores) == (8, 4, 128)
    assert chip.tile_of(0) == chip.tile_of(3) == (0, 0)
    assert chip.tile_of(4) == (1, 0)
    assert chip.tile_of(127) == (7, 3)


def toy_text():
    return (chip_module._FOLDER / "toy.toml").read_text()


def refuse(tmp_path, text):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(ChipFileError) as caught:
        load_chip(path)
    message = str(caught.value)
    assert "\n" not in message
    assert "mine.toml" in message
    return message


def test_a_users_own_file_by_path(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(toy_text().replace('name = "toy"', 'name = "mine"'))
    assert load_chip(path).name == load_chip(str(path)).name == "mine"


@pytest.mark.parametrize(
    ("old", "new", "key", "allowed"),
    [
        ("columns = { value = 4", "colums = { value = 4", "mesh.colums", "cores_per_tile"),
        ("hop_east = { value = 2", "hop_est = { value = 2", "energy.hop_est", "hop_east"),
        ("[spikes]", "[spikez]", "spikez", "spikes"),
        ('kind = "assumed"', 'knd = "assumed"', "mesh.columns.knd", "unit"),
        ("[profiles.toy.time]", "[profiles.toy.times]", "profiles.toy.times", "static_power_mw"),
    ],
)
def test_misspelt_keys_name_file_key_and_allowed_keys(tmp_path, old, new, key, allowed):
    message = refuse(tmp_path, toy_text().replace(old, new, 1))
    assert f"{key}'" in message
    assert allowed in message.split("allowed keys here: ")[1]


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("neurons = { value = 64", "neurons = { value = 0", "limits.neurons.value"),
        ("neurons = { value = 64", "neurons = { value = 1.5", "limits.neurons.value"),
        ("value = 10.0", "value = nan", "synaptic_operation.value"),
        ("value = 10.0", "value = -1.0", "synaptic_operation.value"),
        ('unit = "pJ"', 'unit = "nJ"', "must be 'pJ'"),
        ('kind = "assumed"', 'kind = "guessed"', "mesh.columns.kind"),
        ('source = "invented"', 'source = ""', "mesh.columns.source"),
        # nothing is converted
        (
            "value = 10.0",
            "value = true",
            "synaptic_operation.value': Input should be a valid number",
        ),
        (
            "value = 10.0",
            'value = "10"',
            "synaptic_operation.value': Input should be a valid number",
        ),
        ("neurons = { value = 64", "neurons = { value = true", "limits.neurons.value"),
        ("neurons = { value = 64", "neurons = { value = 64.0", "limits.neurons.value"),
        ("[[1, 100.0], [8", "[[1, true], [8", "barrier.value.0.1"),
        ("population_axons = { value = true", "population_axons = { value = 1", "population_axons"),
        ('{ value = true, unit = "yes/no"', '{ value = "true", unit = "yes/no"', "valid boolean"),
        # numbers that arithmetic, or memory, cannot take
        ("value = 10.0", "value = 1e308", "less than or equal to 1000000000"),
        ("value = 10.0", "value = inf", "synaptic_operation.value"),
        ("value = 10.0", f"value = {'9' * 400}", "got an integer of 1,329 bits"),
        (
            "link_buffer_messages = { value = 4",
            "link_buffer_messages = { value = 2147483648",
            "65536",
        ),
        ("columns = { value = 4", "columns = { value = 2000000", "a board of 4,000,000 tiles"),
        ("cores_per_tile = { value = 2", "cores_per_tile = { value = 9999999", "cores exceeds"),
        ("value = 10.0", f"value = {'[' * 5000}{']' * 5000}", "has a line of"),
        ("value = 10.0", "value = [\n" + "[\n" * 5000 + "]\n" * 5001, "nested too deeply"),
        ("value = 10.0", f"value = {'9' * 100_000}", "has a line of"),
        ("[mesh]", f"# {'x' * 300_000}\n[mesh]", "at most 262,144 are read"),
        # texts that would reach a terminal
        ('name = "toy"', 'name = "\\u001b[31mtoy"', "name': text must be one line of printable"),
        ('source = "invented"', 'source = "a\\nb"', "mesh.columns.source"),
        ("[profiles.toy]", '[profiles."\\u001b[2J"]', r"profiles.\x1b[2J"),
        ("[spikes]", '["\\u001b[2J"]', r"unknown key '\x1b[2J'"),
        ('name = "toy"', f'name = "{"x" * 101}"', "at most 100 characters"),
        ("value = [0, 0]", "value = [4, 0]", "outside the mesh"),
        ("[[1, 100.0], [8, 170.0]]", "[[8, 100.0], [1, 170.0]]", "not ascending"),
        ('["graded", "unit"]', '["burst"]', "spikes.modes.value"),
        ('description = "Invented', '# description = "Invented', "key 'description' is missing"),
        ("[mesh]", "[mesh", "is not TOML"),
    ],
)
def test_bad_values_are_refused(tmp_path, old, new, what):
    assert old in toy_text()
    assert what in refuse(tmp_path, toy_text().replace(old, new, 1))


@pytest.mark.parametrize("kind", ["fifo", "folder", "/dev/zero", "/dev/null"])
def test_what_is_no_regular_file_is_refused_at_once(tmp_path, kind):
    path = Path(kind) if kind.startswith("/") else tmp_path / "mine.toml"
    if kind == "fifo":
        os.mkfifo(path)  # without a writer, whoever opens it waits
    elif kind == "folder":
        path.mkdir()
    with pytest.raises(ChipFileError, match=r"cannot be read \(a (FIFO|device|folder), not"):
        load_chip(path)


@pytest.mark.parametrize("name", [5, None, b"toy", load_chip, 1.5])
def test_what_is_neither_name_nor_path_is_refused(name):
    with pytest.raises(ChipFileError, match="is neither a name nor a path; use one of"):
        load_chip(name)


@pytest.mark.parametrize("name", ["a\0b.toml", "x" * 300 + ".toml", "\x1b[31m.toml", "\x1b", ""])
def test_names_that_no_file_can_have_are_one_printable_line(name):
    with pytest.raises(ChipFileError) as caught:
        load_chip(name)
    assert str(caught.value).isprintable()


def test_60_damaged_chip_files():
    """``python tests/fuzz_chips.py`` runs 2,000."""
    script = Path(__file__).with_name("fuzz_chips.py")
    done = subprocess.run(
        [sys.executable, str(script), "--cases", "60"],
        capture_output=True, text=True, timeout=1200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout)
    assert outcome["refused"] + outcome["used"] + outcome.get("loaded, not used", 0) == 60
    assert outcome["used"] > 3
    assert outcome["peak_mb"] < 512


def test_unknown_names_and_files():
    with pytest.raises(ChipFileError, match=r"'loihi7': is unknown; use one of .*loihi1"):
        load_chip("loihi7")
    with pytest.raises(ChipFileError, match="cannot be read"):
        load_chip("nowhere/chip.toml")
    with pytest.raises(ChipFileError, match="no profile 'x'; use one of davies2018, sanafe"):
        load_chip("loihi1").profile("x")
    with pytest.raises(ChipFileError, match=r"no profile \['a'\]"):
        load_chip("loihi1").profile(["a"])


def test_files_may_extend_a_chip_that_ships(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        'extends = "loihi1"\nname = "mine"\ndescription = "more memory"\n[limits]\n'
        'synapse_memory_bits = { value = 2097152, unit = "bits", source = "x", kind = "assumed" }\n'
    )
    mine, loihi = load_chip(path), load_chip("loihi1")
    assert mine.limits.synapse_memory_bits.value == 2 * loihi.limits.synapse_memory_bits.value
    assert mine.limits.neurons == loihi.limits.neurons
    assert mine.profiles == loihi.profiles
    path.write_text(path.read_text().replace('name = "mine"\ndescription = "more memory"\n', ""))
    bare = load_chip(path)  # another chip than loihi1, and called so
    assert (bare.name, bare.description) == ("mine", "As loihi1; changed: limits")
    message = refuse(tmp_path, 'extends = "loihi9"\nname = "mine"\n')
    assert "extends 'loihi9', which is not a chip that ships; extend one of" in message
    message = refuse(tmp_path, 'extends = "loihi1"\n[limits]\nneuron = 3\n')
    assert "unknown key 'limits.neuron'" in message


@pytest.mark.parametrize(
    ("name", "n_chips"),
    [("kapoho_bay", 2), ("nahuku", 32), ("pohoiki_springs", 768), ("hala_point", 1152)],
)
def test_boards_join_the_meshes_of_their_chips(name, n_chips):
    board = load_chip(name)
    assert board.n_chips == n_chips
    assert board.n_cores == 128 * n_chips
    assert board.n_tiles == 32 * n_chips == board.columns * board.rows
    corners = {board.chip_of(x, y) for x in (0, board.columns - 1) for y in (0, board.rows - 1)}
    assert {0, n_chips - 1} <= corners
    assert board.tile_of(board.n_cores - 1) == (board.columns - 1, board.rows - 1)


def test_the_barrier_of_a_large_board_is_the_published_one():
    time = load_chip("pohoiki_springs").profile("davies2018").time
    assert time.barrier_ns(768 * 32) == 16200
    assert time.barrier_ns(32) == 465


def test_a_board_of_any_size():
    chip = load_chip("loihi1").on_board(5)
    assert 5 <= chip.n_chips <= 8
    assert chip.limits == load_chip("loihi1").limits
    assert load_chip("loihi1").on_board(np.int64(5)) == chip
    for n in (0, -1, 2.5, True, None, 10**5000, [4]):
        with pytest.raises(ChipFileError, match="number of chips"):
            chip.on_board(n)
    with pytest.raises(ChipFileError, match=r"board of 1,000,000 chips 'loihi1'.*tiles exceeds"):
        chip.on_board(1_000_000)


def test_limits_that_nobody_confirmed_are_not_called_measured():
    for name in chip_names():
        for key, quantity in load_chip(name).quantities():
            if quantity.kind == "measured":
                doubts = ("unconfirmed", "confirmed", "assumed", "no primary source", "TODO")
                assert not any(doubt in quantity.source for doubt in doubts), (name, key)
    limits = load_chip("loihi1").limits
    for what in ("threshold", "neuron", "synapse"):
        assert getattr(limits, f"{what}_configurations").kind == "assumed"


def test_loihi_2_energies_are_marked_as_assumed():
    chip = load_chip("loihi2")
    for key, quantity in chip.quantities():
        if ".energy." in key:
            assert quantity.kind == "assumed", key

"""Chip files: what ships is sound, what is malformed is refused in one line."""

from __future__ import annotations

import csv

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


def golden(shared_data, name):
    with open(shared_data / "golden" / name, newline="") as file:
        return list(csv.DictReader(file))


def test_davies_profile_equals_the_published_table(shared_data):
    table = {
        row["quantity"]: float(row["value"]) for row in golden(shared_data, "davies2018_table2.csv")
    }
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


def test_sanafe_profile_equals_its_constants(shared_data):
    rows = golden(shared_data, "sanafe_loihi_constants.csv")
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


def test_unknown_names_and_files():
    with pytest.raises(ChipFileError, match=r"'loihi7': is unknown; use one of .*loihi1"):
        load_chip("loihi7")
    with pytest.raises(ChipFileError, match="cannot be read"):
        load_chip("nowhere/chip.toml")
    with pytest.raises(ChipFileError, match="no profile 'x'; use one of davies2018, sanafe"):
        load_chip("loihi1").profile("x")


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


def test_loihi_2_energies_are_marked_as_assumed():
    chip = load_chip("loihi2")
    for key, quantity in chip.quantities():
        if ".energy." in key:
            assert quantity.kind == "assumed", key

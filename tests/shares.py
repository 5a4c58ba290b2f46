"""Which tests `make test` runs in one environment only, or not at all, by name with the reason.

Both environments run every other test that they can. These take long and can show nothing on the
second Python that lighter tests of the same code do not show there. `make test` gives each to one
environment (``pytest --share=.venv``), such that on two cores both end at the same time; `make
test-long` and plain ``pytest`` leave nothing out. What was left out is listed at the end of a run,
and ``.ci/count_tests.py`` fails where one of them passed nowhere.
"""

from __future__ import annotations

from collections.abc import Container

SEARCH = "a search over integers with a seed; light networks are mapped in both"
EQUALITY = "engines against each other on many random networks; fewer and fixed ones in both"
LAVA = "Lava itself always runs on Python 3.10, in a process of its own"
DAMAGE = "hundreds of damaged files; each kind of damage by hand in both"
PROCESSES = "many commands, processes and signals of the system; each command runs in both"
FIGURES = "many pages and figures are drawn; one in both"
PAGES = "what pages show is printed once; what they call is tested in both"
WHEEL = "a wheel is built and installed, and its loops are compiled anew"

SHARES: dict[str, dict[str, tuple[str, ...]]] = {
    ".venv": {
        FIGURES: (
            "test_html_report.py::test_names_are_not_formulas",
            "test_html_report.py::test_names_cannot_inject",
            "test_html_report.py::test_untraced_report_has_no_waterfall",
            "test_plots.py::test_lines_join_runs_of_one_network_alone_and_accuracy_has_its_range",
        ),
        PROCESSES: (
            "test_shares.py::test_tests_are_left_out_by_name_and_in_the_report",
            "test_cli.py::test_interrupted_run_leaves_nothing",
            "test_cli.py::test_random_data_is_seeded_and_within_levels",
            "test_cli.py::test_compare",
            "test_cli.py::test_run_does_in_one_go_what_the_chain_does",
            "test_cli_outputs.py::test_streams_that_are_full_closed_or_left",
            "test_cli_outputs.py::test_memory_that_runs_out",
            "test_cli_remedies.py::test_no_parameter_of_an_option_is_left_in_a_remedy",
            "test_outputs.py::test_a_full_disk",
            "test_recorded_spikes.py::test_memory_does_not_grow_with_spikes_that_nobody_asked_for",
            "test_reference_speed.py::test_peak_memory_stays_near_the_stated_limit",
            "test_command_line_mistakes.py::test_without_the_mistake_each_succeeds",
            "test_cli_network_files.py::test_nir_files_go_wherever_network_files_go",
            "test_cli_network_files.py::test_fractions_need_a_scale",
            "test_demo_calls.py::test_a_network_of_ones_own",
        ),
        PAGES: (
            "test_docs.py::test_page_runs_and_prints_what_it_shows",
            "test_documented.py::test_the_page_of_the_command_line_is_up_to_date",
        ),
        WHEEL: ("test_packaging.py::test_wheel_in_a_fresh_environment",),
    },
    ".venv-lava": {
        FIGURES: (
            "test_mapping_search.py::test_heat_maps_show_usage_and_loads",
            "test_recorded_spikes.py::test_a_large_trace_shows_the_first_and_the_slowest_samples",
            "test_recorded_spikes.py::test_trace_options",
        ),
        PROCESSES: (
            "test_lava_runner.py::test_a_model_that_raises",
            "test_lava_runner.py::test_a_run_that_takes_too_long",
            "test_lava_runner.py::test_a_killed_process",
            "test_lava_runner.py::test_a_caller_that_is_killed",
        ),
        LAVA: (
            "test_neuron_models.py::test_lava",
            "test_lava_loihi.py::test_delays_shifts_loops_and_carried_states",
            "test_lava_loihi.py::test_lavas_own_lif_on_random_networks",
            "test_lava_loihi.py::test_lavas_own_processes_equal_the_chip_and_published_networks",
            "test_lava_loihi.py::"
            "test_what_leaves_the_range_in_which_lavas_own_are_right_is_an_error",
            "test_lava_loihi.py::test_the_command_says_which_processes_stood",
            "test_lava_networks.py::test_random_networks_equal_the_reference",
            "test_corner_networks.py::test_lava_equals_the_loop_oracle_in_the_corners",
            "test_sigma_delta.py::test_a_random_chain_equals_lavas_processes",
            "test_sigma_delta.py::test_tinynet_equals_lavas_processes",
        ),
        DAMAGE: (
            "test_chips.py::test_60_damaged_chip_files",
            "test_io_h5.py::test_500_damaged_files_give_a_network_or_a_refusal",
            "test_nir_graphs.py::test_small_integers_stay_exact_and_small",
            "test_io_nir.py::test_round_trip_gives_the_same_network_and_spikes",
            "test_nir_export.py::test_files_that_nir_rewrote_give_the_same_network",
            "test_nir_export.py::test_plain_readers_compute_what_a_projection_does",
        ),
        SEARCH: (
            "test_mapping_objectives.py::test_each_objective_is_best_at_what_it_is_for",
            "test_mapping_objectives.py::test_no_objective_is_beaten_by_another_or_by_round_robin",
            "test_mapping_objectives.py::test_spreading_powers_no_further_chip",
            "test_mapping_objectives.py::test_many_small_populations_share_cores_evenly",
            "test_mapping_objectives.py::test_energy_saves_messages_where_static_power_is_unknown",
            "test_mapping_objectives.py::"
            "test_latency_holds_without_measured_traffic_and_in_cycle_mode",
            "test_mapping_search.py::test_relief_lowers_the_fullest_link_for_few_hops",
            "test_mapping_search.py::test_no_mapping_beats_the_bound_and_all_objectives_hold",
            "test_mapping_search.py::test_same_seed_same_mapping",
            "test_mapping_search.py::"
            "test_placement_is_a_permutation_much_better_than_chance_and_seeded",
            "test_mapping_search.py::test_exchanged_bundles_find_their_partners",
            "test_mapping_search.py::test_measured_traffic_counts_messages_of_the_reference",
            "test_mapping_search.py::test_other_cuts_shorten_ways_within_limits",
            "test_mapping_search.py::test_large_networks_are_placed_tile_by_tile",
            "test_mapping_search.py::test_placement_fills_as_few_tiles_as_can_be",
            "test_mapping_search.py::test_hops_at_random_and_at_least",
            "test_mapping_search.py::test_traffic_equals_a_count_neuron_by_neuron",
            "test_mapping_bound.py::test_no_cut_of_a_tiny_network_goes_below_the_bound",
            "test_mapping_scale.py::test_alike_populations_are_counted_as_one_by_one",
            "test_mapping_windows.py::test_random_windows_equal_brute_force_counts",
        ),
        EQUALITY: (
            "test_neuron_models.py::test_emulator_counts_and_cycle",
            "test_neuron_models.py::"
            "test_the_compiled_loop_of_cycle_mode_equals_stepping_outside_of_it",
            "test_cuba_lif.py::test_random_networks_equal_loops_over_integers_on_every_engine",
            "test_corner_networks.py::test_every_engine_equals_the_loop_oracle_in_the_corners",
            "test_mapping_relays.py::"
            "test_split_networks_give_the_same_spikes_in_reference_and_emulator",
            "test_mapping_relays.py::test_every_gain_and_spike_mode_is_relayed_exactly",
            "test_mapping_relays.py::test_a_neuron_that_reaches_24_cores_of_room_for_8_gets_relays",
            "test_mapping_relays.py::test_relays_of_relays_where_a_neuron_needs_too_many",
            "test_mapping_relays.py::test_several_targets_share_relays_and_slack_is_used",
            "test_mapping_fan_in.py::test_split_networks_give_the_same_spikes_and_fit",
            "test_mapping_fan_in.py::test_convolutions_are_split_along_channels",
            "test_mapping_spikes.py::test_emulator_and_reference_agree_on_every_mapping",
            "test_mapping_spikes.py::test_split_fan_in_changes_no_spike_on_the_chip",
            "test_mapping_properties.py::test_random_networks_on_random_chips",
            "test_mapping_properties.py::test_bundles_add_up_on_whichever_cores_they_are",
            "test_mapping_dead_inputs.py::"
            "test_dead_neurons_cost_an_update_but_no_axon_entry_or_message",
            "test_reference_speed.py::test_compiled_update_at_every_multiple_of_some_thresholds",
            "test_emulator_equality.py::test_wide_sums_agree",
            "test_emulator_delays.py::test_modes_reference_and_plain_steps_agree",
            "test_adaptive_lif.py::test_lsnn_answers_about_as_often_right_as_on_the_chip",
            "test_adaptive_lif.py::test_lsnn_in_cycle_mode",
            "test_sigma_delta.py::test_cycle_mode_of_the_emulator_on_tinynet",
        ),
    },
}
"""Per environment and reason, tests as ``file::test`` (with all its parameters), or whole files."""


LONG_ONLY: dict[str, tuple[str, ...]] = {
    "other parameters of these run in the quick profile": (
        "test_html_report.py::test_names_are_not_formulas[$x^{2$]",
        "test_html_report.py::test_names_are_not_formulas[\\\\\\\\$$]",
        "test_html_report.py::test_names_are_not_formulas[$a$]",
        "test_mapping_dead_inputs.py::"
        "test_dead_neurons_cost_an_update_but_no_axon_entry_or_message[1-shape1]",
        "test_mapping_dead_inputs.py::"
        "test_dead_neurons_cost_an_update_but_no_axon_entry_or_message[2-shape0]",
        "test_mapping_dead_inputs.py::"
        "test_dead_neurons_cost_an_update_but_no_axon_entry_or_message[2-shape2]",
        "test_mapping_objectives.py::test_each_objective_is_best_at_what_it_is_for[loihi1-conv]",
        "test_mapping_objectives.py::test_each_objective_is_best_at_what_it_is_for[loihi1-lenet]",
        "test_mapping_objectives.py::test_each_objective_is_best_at_what_it_is_for[loihi2-digits]",
        "test_mapping_objectives.py::test_each_objective_is_best_at_what_it_is_for[loihi2-conv]",
        "test_mapping_objectives.py::test_no_objective_is_beaten_by_another_or_by_round_robin[9]",
        "test_mapping_objectives.py::test_no_objective_is_beaten_by_another_or_by_round_robin[21]",
        "test_mapping_search.py::"
        "test_placement_is_a_permutation_much_better_than_chance_and_seeded[300]",
        "test_mapping_relays.py::test_every_gain_and_spike_mode_is_relayed_exactly[gains0-unit]",
        "test_mapping_relays.py::test_every_gain_and_spike_mode_is_relayed_exactly[gains1-graded]",
        "test_mapping_relays.py::test_every_gain_and_spike_mode_is_relayed_exactly[gains2-unit]",
        "test_mapping_relays.py::test_every_gain_and_spike_mode_is_relayed_exactly[gains3-graded]",
        "test_mapping_relays.py::test_every_gain_and_spike_mode_is_relayed_exactly[gains4-unit]",
        "test_mapping_relays.py::test_every_gain_and_spike_mode_is_relayed_exactly[gains6-unit]",
    ),
    "50 other networks run in Lava in the quick profile": (
        "test_lava_networks.py::test_random_networks_equal_the_reference[50]",
        "test_lava_networks.py::test_random_networks_equal_the_reference[75]",
        "test_lava_networks.py::test_random_networks_equal_the_reference[100]",
        "test_lava_networks.py::test_random_networks_equal_the_reference[125]",
        "test_lava_networks.py::test_random_networks_equal_the_reference[150]",
        "test_lava_networks.py::test_random_networks_equal_the_reference[175]",
    ),
}
"""By reason, tests that `make test` leaves to `make test-long` in both environments, one by one."""


def elsewhere(share: str) -> dict[str, tuple[str, str]]:
    """What the other environment runs: for each entry, its name and the reason."""
    return {
        entry: (environment, reason)
        for environment, reasons in SHARES.items()
        if environment != share
        for reason, entries in reasons.items()
        for entry in entries
    }


def long_only(nodeid: str) -> str | None:
    """Why a test is left to the long profile, None where it is not."""
    name = nodeid.removeprefix("tests/")
    return next((reason for reason, names in LONG_ONLY.items() if name in names), None)


def entry_of(nodeid: str, entries: Container[str]) -> str | None:
    """The entry that a test belongs to."""
    file, _, test = nodeid.partition(".py::")
    file = f"{file.rpartition('/')[2]}.py"
    return next((e for e in (file, f"{file}::{test.partition('[')[0]}") if e in entries), None)

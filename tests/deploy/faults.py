"""Every fault that must have a test, in the words of the design, and the tests that do it; or the reason why there is none here.

`tests/deploy/test_faults_table.py` holds the table to the paragraph, row by row, and each name to a test that exists.
"""

from __future__ import annotations

from dataclasses import dataclass

PARAGRAPH = """
Server process, server app, site daemon, site worker killed (mid-round, between rounds, in evaluation, while writing); SIGTERM in a DP step
(ledger is written ahead); sites that vanish for good (3 left: go on; 2 left: pause and say why); disk full at site and server; GPU out of
memory (halve the micro-batch, keep the logical batch and epsilon); corrupt cache; slow site; all updates rejected (no release, repeat up to
3 times, then stop with a status); site with 0 samples, 1 class, 1 patient; network cut 30 s and 5 min and return; resets and delay;
half-open connection; clock skew of 10 minutes (refused with the word *clock*); two daemons with one identity; double start on one folder
(lock with pid, stale lock taken over); expired, wrong or rotated certificates; ledger deleted, rolled back, truncated or copied (refuse
until an operator acts); the same patient as several slices, several scans, two spellings of an id (one DP unit, one side of the split);
older checkpoint (loads, or refuses with the command to migrate), unknown future format (refuses); DICOM still arriving while ingest runs
(waits for a stable size); a thousand connects (file handles and RSS flat); a random mix for 30 minutes.
"""
"""`design/reliability.md`, *Faults that must each have a test*. What must hold after each of them is `tests/deploy/invariants.py`."""


@dataclass(frozen=True)
class Elsewhere:
    """Why a row has no test here."""

    why: str


HERE = "tests/deploy/test_faults_"
NETWORK = f"{HERE}network.py::test_cut_resets_delay_and_a_half_open_line_cost_nothing_but_time"

FAULTS: dict[str, tuple[str | Elsewhere, ...]] = {
    "Server process, server app, site daemon, site worker killed (mid-round, between rounds, in evaluation, while writing)": (
        f"{HERE}processes.py::test_killed_at_every_moment",
        f"{HERE}processes.py::test_every_kind_of_process_is_killed_once",
        "tests/deploy/test_loopback.py::test_four_kills_in_one_run",
        "tests/client/test_step_checkpoint.py::test_a_killed_process_goes_on",
        "tests/client/test_node.py::test_an_exception_in_a_thread_of_flowers_ends_the_process",
    ),
    "SIGTERM in a DP step (ledger is written ahead)": (Elsewhere("issue PRIVACY: there is no ledger yet"),),
    "sites that vanish for good (3 left: go on; 2 left: pause and say why)": (f"{HERE}sites.py::test_three_left_go_on_two_left_pause_and_say_why",),
    "disk full at site and server": (
        f"{HERE}disk.py::test_a_full_disk_at_the_server_interrupts_with_a_code_and_the_run_goes_on_when_there_is_room",
        f"{HERE}disk.py::test_a_full_disk_at_a_site_keeps_its_update_in_and_the_run_goes_on_when_there_is_room",
        f"{HERE}worker.py::test_a_full_disk_lets_nothing_out_and_what_was_written_stays",
        "tests/shared_models/test_files.py::test_a_failed_write_leaves_the_old_file_and_no_rubbish",
    ),
    "GPU out of memory (halve the micro-batch, keep the logical batch and epsilon)": (Elsewhere("needs a GPU: training/test_device.py"),),
    "corrupt cache": ("tests/client/test_prepare.py::test_damaged_cache_is_made_again",),
    "slow site": (f"{HERE}sites.py::test_a_slow_site_costs_a_round_its_deadline_and_the_run_the_word_degraded",),
    "all updates rejected (no release, repeat up to 3 times, then stop with a status)": (
        f"{HERE}sites.py::test_when_all_updates_are_refused_nothing_is_released",
    ),
    "site with 0 samples, 1 class, 1 patient": (f"{HERE}worker.py::test_a_site_with_hardly_any_data_sends_a_code_or_a_finite_update",),
    "network cut 30 s and 5 min and return": (NETWORK, f"{HERE}mix.py::test_a_cut_of_five_minutes"),
    "resets and delay": (NETWORK, "tests/client/test_node.py::test_a_line_that_breaks_inside_the_handshake_is_dialled_again"),
    "half-open connection": (NETWORK,),
    "clock skew of 10 minutes (refused with the word *clock*)": (
        f"{HERE}network.py::test_a_clock_that_is_ten_minutes_off_is_refused_with_the_word_clock",
    ),
    "two daemons with one identity": (
        "tests/deploy/test_refused_daemons.py::test_a_foreign_identity_is_refused_and_told_why",
        "tests/deploy/test_refused_daemons.py::test_the_good_site_notices_nothing",
    ),
    "double start on one folder (lock with pid, stale lock taken over)": (
        f"{HERE}processes.py::test_a_second_start_in_one_folder_names_the_holder_and_a_stale_lock_is_taken_over",
        "tests/server/test_supervisor.py::test_one_supervisor_a_folder",
    ),
    "expired, wrong or rotated certificates": (
        "tests/deploy/test_refused_daemons.py::test_a_door_whose_certificate_is_not_in_order_hears_nothing",
        "tests/server/test_door.py::test_a_client_notices_a_wrong_certificate",
        "tests/client/test_doctor.py::test_the_line_to_the_server",
        "tests/client/test_doctor.py::test_another_authority",
        "tests/client/test_node.py::test_a_wrong_certificate_ends_the_process",
        "tests/server/test_identity.py::test_a_renewed_certificate_is_of_the_same_authority",
        "tests/client/test_rotation.py::test_the_whole_change",
    ),
    "ledger deleted, rolled back, truncated or copied (refuse until an operator acts)": (Elsewhere("issue PRIVACY: there is no ledger yet"),),
    "the same patient as several slices, several scans, two spellings of an id (one DP unit, one side of the split)": (
        "tests/client/cases/test_identity_and_splits.py::test_spellings_are_one_patient",
        "tests/client/test_prepare.py::test_spellings_visits_and_clinical_table",
        "tests/client/test_worker.py::test_a_patient_is_on_one_side_of_the_split",
        Elsewhere("issue PRIVACY: the unit of a claim"),
    ),
    "older checkpoint (loads, or refuses with the command to migrate), unknown future format (refuses)": (
        "tests/server/test_checkpoint.py::test_a_checkpoint_of_before_formats_were_numbered_loads",
        "tests/server/test_checkpoint.py::test_a_checkpoint_of_an_unknown_format_is_refused_and_no_older_one_taken_in_its_place",
        "tests/shared_models/test_bundle.py::test_an_unknown_format_is_refused",
    ),
    "DICOM still arriving while ingest runs (waits for a stable size)": (
        "tests/client/test_watch.py::test_files_that_are_still_growing",
        "tests/client/test_watch.py::test_every_change_starts_the_wait_anew",
    ),
    "a thousand connects (file handles and RSS flat)": (f"{HERE}door.py::test_a_thousand_connects_leave_nothing_behind",),
    "a random mix for 30 minutes": (f"{HERE}mix.py::test_a_random_mix",),
}
"""Row to tests (``file::name``) or reasons."""

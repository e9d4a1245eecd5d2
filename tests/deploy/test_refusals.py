"""The index of refusals: what must not get in, not run and not count, and the test that shows it. A test that goes missing is noticed here."""

from __future__ import annotations

import importlib

import pytest

DAEMONS, SITES, JOINING = "tests.deploy.test_refused_daemons", "tests.server.test_sites", "tests.client.test_identity"
DOOR, LOOK, DOCTOR = "tests.server.test_door", "tests.client.test_refused_certificates", "tests.client.test_doctor"
APPS, REPLAY, CHECK = "tests.client.test_refused_apps", "tests.server.test_replay", "tests.server.test_check"
SIGNED = "tests.server.test_signature"
A_DAEMON, A_DOOR = "test_a_foreign_identity_is_refused_and_told_why", "test_a_door_whose_certificate_is_not_in_order_hears_nothing"
A_KIT, AN_APP, A_REPLAY = "test_kits_that_are_refused", "test_a_refused_app_never_runs", "test_a_replay_counts_for_nothing"
A_LOOK = "test_a_site_does_not_go_on_and_says_why"

Shown = tuple[str, str, str]
"""Module, test, and the case of its table ("" for a test without one)."""

INDEX: dict[str, dict[str, list[Shown]]] = {
    "identity": {
        "unregistered key": [
            (DAEMONS, A_DAEMON, "unregistered key"),
            (SIGNED, "test_a_site_without_a_registered_key_is_refused", ""),
        ],
        "revoked site": [
            (DAEMONS, A_DAEMON, "revoked site"),
            (SITES, "test_a_revoked_site_is_out_until_it_is_approved_again", ""),
            (SIGNED, "test_keys_come_from_the_register", ""),
        ],
        "key of another site": [
            (DAEMONS, A_DAEMON, "key of another site"),
            (SITES, "test_a_name_and_a_key_belong_to_one_site", ""),
        ],
        "two daemons with one identity": [
            (DAEMONS, A_DAEMON, "second daemon of one site"),
            ("tests.client.test_resident", "test_one_worker_a_folder", ""),
        ],
        "altered request": [
            (SITES, "test_a_wrong_request_registers_nothing", ""),
            (SITES, "test_the_fingerprint_on_the_telephone_must_be_that_of_the_request", ""),
        ],
        "altered kit": [
            *((JOINING, A_KIT, case) for case in ("altered", "unsigned", "signed by another")),
            (SITES, "test_a_kit_that_was_altered_is_noticed", ""),
        ],
        "kit for other keys": [(JOINING, A_KIT, "for other keys"), (JOINING, A_KIT, "for another site")],
        "other consortium": [(JOINING, "test_another_consortium_does_not_take_over", "")],
        "key open to others": [("tests.client.test_approval", "test_a_key_open_to_others_allows_nothing", "")],
    },
    "certificate": {
        "plaintext client": [(DOOR, "test_plain_text_is_refused", "")],
        "plaintext server": [(DOCTOR, "test_the_line_to_the_server", "no TLS")],
        "old TLS": [(DOOR, "test_old_tls_is_refused", "")],
        "wrong authority": [(LOOK, A_LOOK, "of another authority"), (DAEMONS, A_DOOR, "of another authority")],
        "wrong host name": [(LOOK, A_LOOK, "for another host"), (DAEMONS, A_DOOR, "for another host")],
        "expired": [(LOOK, A_LOOK, "expired"), (DAEMONS, A_DOOR, "expired")],
        "not yet valid": [(LOOK, A_LOOK, "not yet valid"), (DAEMONS, A_DOOR, "not yet valid")],
        "self-signed": [(LOOK, A_LOOK, "signed by itself"), (DAEMONS, A_DOOR, "signed by itself")],
    },
    "app": {
        "unsigned": [
            (APPS, AN_APP, "unsigned"),
            (DAEMONS, "test_code_from_the_server_runs_only_where_it_was_approved", "not approved"),
        ],
        "altered by one byte": [(APPS, AN_APP, "altered by one byte"), (APPS, AN_APP, "altered by one bit of the archive")],
        "approval revoked": [(APPS, AN_APP, "approval revoked"), (APPS, AN_APP, "a list from before the revocation")],
        "older version": [(APPS, AN_APP, "an older version")],
        "wrongly signed entry": [(APPS, AN_APP, "an entry signed by a stranger"), (APPS, AN_APP, "an entry changed by hand")],
        "bundle with code": [(APPS, AN_APP, "code under the name of ours"), (APPS, AN_APP, "code beside the name of ours")],
        "names that lead out": [
            *((APPS, AN_APP, case) for case in ("a name that leads out", "a name from the root", "a name with backslashes")),
            (APPS, "test_not_even_an_approved_app_writes_outside_its_folder", "../../marker.md"),
        ],
        "bundle naming another app": [(APPS, AN_APP, "the name of another app"), (APPS, AN_APP, "two descriptions")],
        "experiment that was not approved": [
            ("tests.client.test_resident", "test_only_approved_work_is_done", ""),
            ("tests.client.test_approval", "test_a_changed_list_allows_nothing", "decision changed"),
        ],
    },
    "replay": {
        "stale round": [(REPLAY, A_REPLAY, "of an earlier round"), (CHECK, "test_each_kind_of_bad_update_has_its_code", "the last round")],
        "future round": [(REPLAY, A_REPLAY, "of a later round"), (CHECK, "test_each_kind_of_bad_update_has_its_code", "the next round")],
        "other run": [(REPLAY, A_REPLAY, "of another run"), (CHECK, "test_each_kind_of_bad_update_has_its_code", "another run")],
        "duplicated update": [(REPLAY, "test_an_update_that_arrives_several_times_counts_once", "")],
        "wrong signature": [(REPLAY, A_REPLAY, "with one digit of the signature changed"), (SIGNED, "test_the_others_go_on_without_it", "unsigned")],
        "right signature of another site": [
            (REPLAY, A_REPLAY, "with another site's right signature"),
            (REPLAY, A_REPLAY, "of another site under our name"),
        ],
    },
}


ENTRIES = [(f"{kind}: {case}", one) for kind, cases in INDEX.items() for case, shown in cases.items() for one in shown]


@pytest.mark.parametrize(("case", "shown"), ENTRIES, ids=lambda value: value if isinstance(value, str) else value[1])
def test_each_refusal_has_its_test(case: str, shown: Shown) -> None:
    module, name, row = shown
    test = getattr(importlib.import_module(module), name, None)
    assert test is not None, f"{case}: {module} has no {name}"
    if row:
        assert row in rows_of(test), f"{case}: {name} has no case {row!r}"


def rows_of(test: object) -> set[str]:
    """The cases of a parametrised test, as its table or its ids name them."""
    marks = [mark for mark in getattr(test, "pytestmark", []) if mark.name == "parametrize"]
    assert marks, "the test has no table"
    return {str(value) for mark in marks for value in [*mark.args[1], *(mark.kwargs.get("ids") or [])]}

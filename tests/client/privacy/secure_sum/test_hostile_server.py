"""What a site does not do for any server: every way in which one could ask for more than the sum."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from server.runs.secure import SecureSum
from shared_models.core.files import read_json, write_json
from shared_models.messages import Job, Update
from shared_models.secure_sum.group import mask_purpose, statement_of
from shared_models.secure_sum.roster import certify
from shared_models.secure_sum.vector import Part
from shared_models.signing import public_half
from tests.client.papers import CONSORTIUM, write_kit
from tests.server.secure_sites import NAMES, Line, Ward, experiment_of, weights

CURRENT = {"w": np.zeros(50, np.float32)}
KEYS = {name: name.encode().ljust(32, b".") for name in NAMES}
PUBLIC = {name: public_half(key) for name, key in KEYS.items()}
EXPERIMENT = experiment_of()


def wards_of(folder: Path) -> dict[str, Ward]:
    """Five sites with signing keys and the consortium's kit."""
    from shared_models.papers import Request

    found = {}
    for name in NAMES:
        home = folder / name
        (home / "secrets").mkdir(parents=True)
        request = Request.model_construct(name=name, fingerprint="0" * 39)
        write_kit(home / "kit.json", request)
        found[name] = Ward(folder, name, lambda job, name=name: Part(weights(name, job.state), 20, {}), EXPERIMENT, key=KEYS[name])
    return found


def secure(**changes: Any) -> SecureSum:
    return SecureSum(EXPERIMENT, run="r", certificate={**certify("r", PUBLIC, CONSORTIUM), **changes})


def fit(round: int = 1) -> Job:
    return Job(run="r", round=round, kind="fit", state=CURRENT, rule={"name": "plain"})


def sum_of(line: Line, round: int = 1, whole: SecureSum | None = None) -> Any:
    return (whole or secure()).sum(fit(round), line, sites=NAMES, current=CURRENT)


def test_signed_and_certified_it_works(tmp_path: Path) -> None:
    line = Line(wards_of(tmp_path), silent={"fit": {"beta"}})
    assert sum_of(line).total.cases == 80
    assert read_json(tmp_path / "alpha" / "peers.json") == PUBLIC
    assert (tmp_path / "alpha" / "peers.json").stat().st_mode & 0o777 == 0o600


def lie_in(kind: str, change: Callable[[Job], Job], *, to: str = "alpha") -> Callable[[str, Job], Job]:
    return lambda site, job: change(job) if job.kind == kind and site == to else job


def forged_keys(job: Job) -> Job:
    """The server puts keys of its own in the place of beta's."""
    return replace(job, extra={**job.extra, "seal/beta": np.full(32, 9, np.uint8)})


def without(job: Job, *names: str) -> Job:
    return replace(job, extra={key: value for key, value in job.extra.items() if key.partition("/")[2] not in names})


SHARES_LIES: dict[str, tuple[Callable[[Job], Job], str]] = {
    "keys of the server's own": (forged_keys, "E_MASK_SIGNATURE"),
    "two sites": (lambda job: without(job, "beta", "delta", "gamma"), "E_MASK_SITES"),
    "without this site": (lambda job: without(job, "alpha"), "E_MASK_SITES"),
    "one key twice": (lambda job: replace(job, extra={**job.extra, "seal/beta": job.extra["seal/delta"]}), "E_MASK_KEYS"),
    "another key for this site": (lambda job: replace(job, extra={**job.extra, "seal/alpha": np.full(32, 9, np.uint8)}), "E_MASK_KEYS"),
    "a low-order key": (lambda job: replace(job, extra={**job.extra, "seal/beta": np.zeros(32, np.uint8)}), "E_MASK_SIGNATURE"),
    "keys of another length": (lambda job: replace(job, extra={**job.extra, "mask/beta": job.extra["mask/beta"][:1]}), "E_MASK_KEYS"),
    "a group that is not known": (lambda job: replace(job, rule={**job.rule, "group": "0" * 16}), "E_MASK_GROUP"),
    "a group that is a path": (lambda job: replace(job, rule={**job.rule, "group": "../../x"}), "E_MASK_GROUP"),
    "a site that is a path": (lambda job: replace(job, extra={**job.extra, "mask/../x": job.extra["mask/beta"]}), "E_MASK_SITES"),
    "no certificate": (lambda job: replace(job, rule={**job.rule, "certificate": None}), "E_EXPERIMENT"),
    "a certificate by another key": (lambda job: replace(job, rule={**job.rule, "certificate": certify("r", PUBLIC, b"x" * 32)}), "E_SIGNATURE"),
    "a certificate of another run": (lambda job: replace(job, rule={**job.rule, "certificate": certify("q", PUBLIC, CONSORTIUM)}), "E_SIGNATURE"),
    "beta not certified": (
        lambda job: replace(job, rule={**job.rule, "certificate": certify("r", {**PUBLIC, "beta": ""}, CONSORTIUM)}),
        "E_MASK_SIGNATURE",
    ),
}


@pytest.mark.parametrize("name", SHARES_LIES)
def test_lies_about_the_members(name: str, tmp_path: Path) -> None:
    change, code = SHARES_LIES[name]
    line = Line(wards_of(tmp_path))
    line.lie = lie_in("shares", change)
    assert sum_of(line).refused == {"alpha": code}


def test_a_known_hospital_under_another_key(tmp_path: Path) -> None:
    wards = wards_of(tmp_path)
    assert sum_of(Line(wards)).total is not None
    wards["beta"].key = b"y" * 32
    certificate = certify("r", {**PUBLIC, "beta": public_half(b"y" * 32)}, CONSORTIUM)
    found = sum_of(Line(wards), 2, SecureSum(EXPERIMENT, run="r", certificate=certificate))
    assert {found.refused[name] for name in NAMES if name != "beta"} == {"E_PEER_KEY"}


def test_keys_of_another_group_are_not_taken(tmp_path: Path) -> None:
    wards = wards_of(tmp_path)
    old: dict[str, Update] = {}
    line = Line(wards)
    assert sum_of(line).total is not None
    old = {update.site: update for kind, update in line.transcript if kind == "keys"}
    again = Line(wards)
    text = old["beta"].extra["signature"].tobytes().decode()

    def replay(job: Job) -> Job:
        arrays = {f"{kind}/beta": old["beta"].extra[kind] for kind in ("mask", "seal")}
        return replace(job, extra={**job.extra, **arrays}, rule={**job.rule, "signatures": {**job.rule["signatures"], "beta": text}})

    again.lie = lie_in("shares", replay)
    assert sum_of(again, 2).refused == {"alpha": "E_MASK_SIGNATURE"}


FIT_LIES: dict[str, tuple[dict[str, Any], str]] = {
    "two sites": ({"sites": ["alpha", "beta"]}, "E_MASK_SITES"),
    "without this site": ({"sites": ["beta", "delta", "gamma"]}, "E_MASK_SITES"),
    "a stranger": ({"sites": ["alpha", "beta", "delta", "zeta"]}, "E_MASK_SITES"),
    "a site twice": ({"sites": ["alpha", "alpha", "beta", "delta"]}, "E_MASK_SITES"),
    "no list": ({"sites": "alpha"}, "E_MASK_SITES"),
    "a slot that is not there": ({"slot": 8}, "E_MASK_GROUP"),
    "a slot below zero": ({"slot": -1}, "E_MASK_GROUP"),
    "a slot that is a word": ({"slot": "0"}, "E_MASK_GROUP"),
    "another group": ({"group": "0" * 16}, "E_MASK_GROUP"),
}


@pytest.mark.parametrize("name", FIT_LIES)
def test_lies_about_whom_to_mask_with(name: str, tmp_path: Path) -> None:
    change, code = FIT_LIES[name]
    line = Line(wards_of(tmp_path))
    line.lie = lie_in("fit", lambda job: replace(job, rule={**job.rule, "masks": {**job.rule["masks"], **change}}))
    assert sum_of(line).refused["alpha"] == code


def test_a_slot_masks_one_update(tmp_path: Path) -> None:
    line = Line(wards_of(tmp_path))
    assert sum_of(line).total is not None
    job = next(job for site, job in line.sent if job.kind == "fit" and site == "alpha")
    other = replace(job, state={"w": np.ones(50, np.float32)})
    assert line.wards["alpha"].handle(other).code == "E_MASK_USED"
    assert line.wards["alpha"].handle(job).code == "E_MASK_USED"


def unmask_of(line: Line, site: str = "alpha") -> Job:
    return next(job for name, job in line.sent if job.kind == "unmask" and name == site)


UNMASK_LIES: dict[str, tuple[Callable[[Job], Job], str]] = {
    "fewer than the threshold": (lambda job: replace(job, rule={**job.rule, "alive": ["alpha", "delta"]}), "E_MASK_SITES"),
    "this site is dead": (lambda job: replace(job, rule={**job.rule, "alive": ["delta", "epsilon", "gamma"]}), "E_MASK_SITES"),
    "a stranger is alive": (lambda job: replace(job, rule={**job.rule, "alive": ["alpha", "delta", "gamma", "zeta"]}), "E_MASK_SITES"),
    "a site twice": (lambda job: replace(job, rule={**job.rule, "alive": ["alpha", "alpha", "delta", "gamma"]}), "E_MASK_SITES"),
    "another slot": (lambda job: replace(job, rule={**job.rule, "slot": 1}), "E_MASK_GROUP"),
    "another round": (lambda job: replace(job, round=2), "E_MASK_GROUP"),
    "one more site dead than was agreed": (lambda job: replace(job, rule={**job.rule, "alive": ["alpha", "delta", "gamma"]}), "E_MASK_USED"),
    "the dead one alive": (lambda job: replace(job, rule={**job.rule, "alive": list(NAMES)}), "E_MASK_USED"),
    "no signatures": (lambda job: replace(job, rule={**job.rule, "signatures": {}}), "E_MASK_SIGNATURE"),
    "one signature for all": (
        lambda job: replace(job, rule={**job.rule, "signatures": dict.fromkeys(job.rule["alive"], job.rule["signatures"]["delta"])}),
        "E_MASK_SIGNATURE",
    ),
    "both shares of a survivor": (lambda job: replace(job, extra={**job.extra, "key/delta": job.extra["self/delta"]}), "E_MASK_SITES"),
    "the own mask of the dead": (lambda job: replace(job, extra={**job.extra, "self/beta": job.extra["key/beta"]}), "E_MASK_SITES"),
}


@pytest.mark.parametrize("name", UNMASK_LIES)
def test_lies_about_who_survived(name: str, tmp_path: Path) -> None:
    change, code = UNMASK_LIES[name]
    line = Line(wards_of(tmp_path), silent={"fit": {"beta"}})
    line.lie = lie_in("unmask", change)
    assert sum_of(line).refused.get("alpha", "helped") in (code, "helped")
    refused = [update.code for kind, update in line.transcript if kind == "unmask" and update.site == "alpha"]
    assert refused == [code]


def test_a_sealed_share_does_not_open_as_another(tmp_path: Path) -> None:
    line = Line(wards_of(tmp_path), silent={"fit": {"beta"}})
    swap: list[int] = []

    def change(job: Job) -> Job:
        swap.append(1)
        # The share of delta's key, which the server holds, under the label of its own mask; and one of another slot.
        shares = next(update for kind, update in line.transcript if kind == "shares" and update.site == "delta")
        others = next(update for kind, update in line.transcript if kind == "shares" and update.site == "beta")
        return replace(job, extra={"self/delta": shares.extra["alpha"][0], "key/beta": others.extra["alpha"][1]})

    line.lie = lie_in("unmask", change)
    assert sum_of(line).total is not None
    opened = next(update for kind, update in line.transcript if kind == "unmask" and update.site == "alpha")
    assert swap
    assert set(opened.extra) == {"self/alpha"}


def test_asked_again_it_says_the_same_and_nothing_else(tmp_path: Path) -> None:
    line = Line(wards_of(tmp_path), silent={"fit": {"beta"}})
    assert sum_of(line).total is not None
    ward = line.wards["alpha"]
    said = {kind: update for kind, update in line.transcript if update.site == "alpha"}
    asked = {job.kind: job for site, job in line.sent if site == "alpha"}
    for kind in ("keys", "shares", "agree", "unmask"):
        again = ward.handle(asked[kind])
        assert again.signature == said[kind].signature != ""
    alive = ["alpha", "delta", "gamma"]
    assert ward.handle(replace(asked["agree"], rule={**asked["agree"].rule, "alive": alive})).code == "E_MASK_USED"
    assert ward.handle(replace(asked["unmask"], rule={**asked["unmask"].rule, "alive": alive})).code == "E_MASK_USED"


def test_another_list_cannot_be_agreed_after_all_were_said_to_be_alive(tmp_path: Path) -> None:
    line = Line(wards_of(tmp_path))
    assert sum_of(line).total is not None
    job = unmask_of(line)
    agree = replace(job, kind="agree", extra={}, rule={**job.rule, "alive": ["alpha", "beta", "delta"]})
    assert line.wards["alpha"].handle(agree).code == "E_MASK_USED"


def test_a_round_is_opened_for_one_set_of_sites(tmp_path: Path) -> None:
    wards = wards_of(tmp_path)
    assert sum_of(Line(wards)).total is not None
    fewer = Line(wards, silent={"fit": {"beta"}})
    found = sum_of(fewer)  # the same round under a new group: the difference of both sums would be beta's update
    assert found.total is None
    assert {update.code for kind, update in fewer.transcript if kind == "unmask"} == {"E_MASK_ROUND"}
    assert sum_of(Line(wards)).total is not None  # the same sites again: nothing new is learnt
    assert sum_of(Line(wards, silent={"fit": {"beta"}}), 2).total is not None


def test_secrets_are_for_the_owner_and_go_when_they_are_used(tmp_path: Path) -> None:
    line = Line(wards_of(tmp_path))
    whole = secure()
    assert sum_of(line, whole=whole).total is not None
    folder = tmp_path / "alpha" / "secure-sum"
    (path,) = folder.glob("*-*.json")
    assert (folder.stat().st_mode & 0o777, path.stat().st_mode & 0o777) == (0o700, 0o600)
    kept = read_json(path)
    assert kept["mask"][0] == ""
    assert all(kept["mask"][1:])
    assert sum_of(line, 2).total is not None  # a new group
    assert [one.name for one in folder.glob("*-*.json")] != [path.name]
    assert len(list(folder.glob("*-*.json"))) == 1


def test_a_statement_names_everything() -> None:
    one = statement_of("d", slot=0, sites=NAMES, alive=NAMES[:3])
    assert len({one, statement_of("e", slot=0, sites=NAMES, alive=NAMES[:3]), statement_of("d", slot=1, sites=NAMES, alive=NAMES[:3])}) == 3
    assert one != statement_of("d", slot=0, sites=NAMES[:4], alive=NAMES[:3]) != statement_of("d", slot=0, sites=NAMES, alive=NAMES[:4])


def test_members_who_were_shown_other_members_share_no_masks() -> None:
    assert mask_purpose("d", slot=0, sites=NAMES) != mask_purpose("d", slot=0, sites=NAMES[:3]) != mask_purpose("e", slot=0, sites=NAMES[:3])


def test_peers_file_in_other_hands_is_seen(tmp_path: Path) -> None:
    wards = wards_of(tmp_path)
    write_json(tmp_path / "alpha" / "peers.json", {"beta": "00" * 32}, mode=0o600)
    assert sum_of(Line(wards)).refused == {"alpha": "E_PEER_KEY"}

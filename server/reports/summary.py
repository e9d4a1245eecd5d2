"""The plain-language part of a report: sentences made from the numbers, for a reader who opens nothing else."""

from __future__ import annotations

from typing import Any

from server.reports.record import Arm, Record
from server.reports.wording import counted, duration_text, interval_text, listed, metric_title, ranges_text, shown
from shared_models.core.errors import FedILDError
from shared_models.metrics import METRICS

BY_CHANCE = ("auroc", "harrell_c", "uno_c", "auc_at")
"""Beginnings of the metrics that are 0.5 for a model that guesses."""

LEVELS = ("auroc_macro", "dice", "balanced_accuracy", "accuracy")
"""Metrics that may lead a report, first come first served."""


def headline_metric(record: Record) -> str | None:
    """Return the metric that leads the report: the one that the run names, or else the first of `LEVELS` that some arm has."""
    named = record.metrics.get("headline")
    found = [name for arm in record.arms for name in arm.cells] + [name for table in record.sites.values() for name in table]
    for name in (named, *LEVELS, *found):
        if isinstance(name, str) and name in found:
            return name
    return None


def training_sites(record: Record) -> list[dict[str, Any]]:
    """Return the hospitals that took part in training."""
    return [site for site in record.run.get("sites") or [] if not is_held_out(site)]


def is_held_out(site: dict[str, Any]) -> bool:
    """Return whether a hospital of ``run.json`` was kept out of training."""
    return str(site.get("role", "")).replace("-", "_").replace(" ", "_") in ("held_out", "holdout", "unseen", "test")


def sentences(record: Record) -> list[str]:
    """Return the summary: what was trained, how well it does on the unseen hospital, compared with what, and what went wrong."""
    said = [_trained(record)]
    headline = headline_metric(record)
    federated, pooled, mean = (record.arm(key) for key in ("federated", "pooled", "mean"))
    if headline and federated and headline in federated.cells:
        said += _unseen(record, federated, headline)
        said += _compared(record, headline, federated, pooled, mean)
    said += _between_sites(record, headline) + _personal(record, headline) + _calibration(federated) + _operating(federated)
    said += [f"Released is {record.run['released']}."] if record.run.get("released") else []
    said += round_notes(record) or ([f"All {len(record.rounds)} rounds ran with every hospital."] if record.rounds else [])
    return [sentence.replace(" %", "\N{NO-BREAK SPACE}%") for sentence in said]


def patient_word(record: Record) -> str:
    """Return what a case of this run is called: a patient, or one of the scans of a patient where every visit counts."""
    case = "scan" if record.metrics.get("case") == "scan" else "patient"
    return f"synthetic {case}" if record.kind == "phantom" else case


def _trained(record: Record) -> str:
    run, sites = record.run, training_sites(record)
    what = f"The model ({run['model']})" if run.get("model") else "A model"
    how = f" with the strategy {run['strategy']}" if run.get("strategy") else ""
    rounds = len(record.rounds) or record.metrics.get("rounds")
    cases = [site["cases"] for site in sites if isinstance(site.get("cases"), int)]
    many = f" on {counted(sum(cases), patient_word(record))}" if cases else ""
    where = f" at {counted(len(sites), 'hospital')}" if sites else ""
    seconds = [value for value in (record.metrics.get("wall_s") or {}).values() if isinstance(value, int | float)]
    took = f", in {duration_text(sum(seconds))} all told" if seconds else ""
    over = f" in {counted(int(rounds), 'round')}" if rounds else ""
    told = f"{what} was trained{how}{over}{many}{where}{took}."
    classes = f" It tells apart {listed(record.classes)}." if len(record.classes) > 1 else ""
    if record.metrics.get("target") == "findings":
        classes = f" It says of each of {listed(record.classes)} whether a patient has it."
    return f"{told}{classes} Hospitals sent model updates, never images."


def _unseen(record: Record, federated: Arm, headline: str) -> list[str]:
    cell, title = federated.cells[headline], metric_title(headline)
    if federated.folds:
        return [f"Over {counted(len(federated.folds), 'fold')} its {title} was {shown(cell['value'])} on average."]
    away = [str(site.get("name")) for site in record.run.get("sites") or [] if is_held_out(site)]
    whose = f"a hospital that took no part in training{f' ({listed(away)})' if away else ''}"
    if record.run.get("unseen") == "patients":
        whose = "the hospitals themselves, put aside before training,"
    n = f"{counted(cell['n'], patient_word(record))} of " if isinstance(cell["n"], int) else ""
    if cell["value"] is None:
        return [f"On {n}{whose} its {title} is undefined: the cases do not hold what it needs."]
    sure = f", 95 % interval {shown(cell['low'])} to {shown(cell['high'])}" if cell["low"] is not None else ""
    said = [f"On {n}{whose} its {title} was {shown(cell['value'])}{sure}."]
    if headline.startswith(BY_CHANCE) and cell["low"] is not None and cell["low"] <= 0.5:
        said.append("The interval holds 0.5: this run does not show that the model is better than guessing.")
    return said


def _compared(record: Record, headline: str, federated: Arm, pooled: Arm | None, mean: Arm | None) -> list[str]:
    value, said = federated.cells[headline]["value"], []
    higher = METRICS[headline].better == "higher" if headline in METRICS else True
    if value is None:
        return []
    if mean and (cell := mean.cells.get(headline)) and cell["value"] is not None:
        spread = f" (from {shown(cell['least'])} to {shown(cell['most'])})" if cell["of"] > 1 else ""
        said.append(
            f"Hospitals that trained alone reached {shown(cell['value'])} on average on the same patients{spread}: training together was "
            f"{_difference(value, cell['value'], higher)}.{_chance(record, 'local_only', headline, federated, cell['value'])}"
        )
    if pooled and (cell := pooled.cells.get(headline)) and cell["value"] is not None:
        said.append(
            f"One model trained on all data in one place, which privacy rules rarely allow, reached {interval_text(cell)}: training together was "
            f"{_difference(value, cell['value'], higher)}.{_chance(record, 'pooled', headline, federated, cell['value'])}"
        )
    return said


def _difference(value: float, other: float, higher: bool) -> str:
    gap = value - other
    if abs(gap) < 0.0005:
        return "level with that"
    return f"{shown(abs(gap))} {'better' if (gap > 0) == higher else 'worse'}"


def _chance(record: Record, against: str, headline: str, federated: Arm, other: float) -> str:
    """Say whether chance may explain a difference: by the paired interval of ``differences`` if recorded, else by the federated interval."""
    paired = ((record.metrics.get("differences") or {}).get(against) or {}).get(headline) or {}
    low, high = paired.get("low"), paired.get("high")
    gap = (federated.cells[headline]["value"] or 0.0) - other
    if low is not None and high is not None and abs((paired.get("value") or 0.0) - gap) < 1e-6:
        verdict = "may be chance" if low <= 0 <= high else "is unlikely to be chance"
        return f" The difference {verdict} (paired 95 % interval {shown(low)} to {shown(high)})."
    cell = federated.cells[headline]
    if cell["low"] is not None and cell["low"] <= other <= cell["high"]:
        return " That lies inside the federated model's interval, so the difference may be chance."
    return ""


def _between_sites(record: Record, headline: str | None) -> list[str]:
    found = {site: cells[headline]["value"] for site, cells in record.sites.items() if headline in cells and cells[headline]["value"] is not None}
    if len(found) < 2 or headline is None:
        return []
    worst, best = sorted(found, key=lambda site: found[site])[:: len(found) - 1]
    return [f"Among the training hospitals its {metric_title(headline)} ran from {shown(found[worst])} ({worst}) to {shown(found[best])} ({best})."]


def _personal(record: Record, headline: str | None) -> list[str]:
    values = [
        (own[headline]["value"], record.sites[site][headline]["value"])
        for site, own in record.personal.items()
        if headline in own and headline in record.sites.get(site, {})
    ]
    pairs = [(own, globally) for own, globally in values if own is not None and globally is not None]
    if not pairs or headline is None:
        return []
    higher = METRICS[headline].better == "higher" if headline in METRICS else True
    better = sum((own > globally) == higher and own != globally for own, globally in pairs)
    own, globally = (sum(side) / len(pairs) for side in zip(*pairs, strict=True))
    return [
        f"Hospitals keep models of their own beside it: on its own cases {better} of {counted(len(pairs), 'hospital')} did better with the personal "
        f"model, whose mean {metric_title(headline)} was {shown(own)} against {shown(globally)} of the federated one."
    ]


def _calibration(federated: Arm | None) -> list[str]:
    cell = federated.cells.get("ece") if federated else None
    if not cell or cell["value"] is None:
        return []
    return [f"Its stated probabilities were off by {shown(100 * cell['value'], 0)} percentage points on average."]


def _operating(federated: Arm | None) -> list[str]:
    """Say what the frozen threshold does on the unseen hospital."""
    cells = {name: federated.cells.get(f"{name}_at_operating_point") for name in ("sensitivity", "specificity")} if federated else {}
    told = [f"a {name} of {interval_text(cell)} on {cell['n']}" for name, cell in cells.items() if cell and cell["value"] is not None]
    return [f"The operating point that the training hospitals froze has there {listed(told)}."] if told else []


def refusal_words() -> dict[str, str]:
    """Return what each error code means: the first sentence of its class."""
    words, classes = {}, [FedILDError]
    while classes:
        one = classes.pop()
        words[one.code] = (one.__doc__ or "").strip().splitlines()[0].split(". ")[0].rstrip(".")
        classes += one.__subclasses__()
    return words


def round_notes(record: Record) -> list[str]:
    """Return who was missing, late or refused in which rounds, and which rounds ran degraded."""
    seen: dict[tuple[str, str], list[int]] = {}
    for one in record.rounds:
        for site in one.get("missing") or []:
            seen.setdefault((str(site), "did not answer"), []).append(one["round"])
        for site in one.get("late") or []:
            seen.setdefault((str(site), "was still at work"), []).append(one["round"])
        for site, found in one["sites"].items():
            if found.get("refused"):
                code = str(found["refused"])
                meaning = refusal_words().get(code)
                seen.setdefault((site, f"refused with {code}{f' ({meaning})' if meaning else ''}"), []).append(one["round"])
    said = [f"{site} {what} in round{'s' if len(rounds) > 1 else ''} {ranges_text(rounds)}." for (site, what), rounds in seen.items()]
    degraded = [one["round"] for one in record.rounds if one.get("degraded")]
    if degraded:
        rounds, were = ("Rounds", "were") if len(degraded) > 1 else ("Round", "was")
        shares = [float(one["missing_share"]) for one in record.rounds if one.get("degraded") and isinstance(one.get("missing_share"), float | int)]
        without = f", without up to {max(shares):.0%} of the patients" if shares else ""
        said.append(f"{rounds} {ranges_text(degraded)} {were} degraded: closed with fewer hospitals than planned{without}.")
    return said

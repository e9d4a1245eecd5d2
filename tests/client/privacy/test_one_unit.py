"""From DICOM files to the noise: all slices of three scans, four series and two spellings of an id are one unit on one side of every split."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from client.prepare import prepare_folder
from client.selection import split_records
from client.site import Site
from client.training.private_sums import clipped_sums
from client.training.units import units_of
from shared_models.catalogue import build, initial_state
from shared_models.experiment import Experiment, Preparation
from tests.client.dicom_factory import SeriesPlan, chest, write

SLICES = chest()


def site_of(folder: Path) -> Site:
    inbox, rows = folder / "dicom", ["patient_id,study_date,diagnosis,age"]
    scans = [("Doe-0007", "20240531", "1"), (" doe 0007", "20240630", "2"), ("DOE_0007", "20240901", "3"), ("doe0007", "20240901", "4")]
    scans += [(f"other{number}", "20240101", str(10 + number)) for number in range(3)]
    for patient, date, number in scans:  # the last two of Doe are two series of one study
        study = "1.7.3" if number == "4" else f"1.7.{number}"
        write(inbox / number, SeriesPlan(SLICES + int(number), patient=patient, date=date, study=study, series=f"1.7.{number}.9"))
        if number == "4":
            continue
        rows.append(f"{patient.strip()},{date[:4]}-{date[4:6]}-{date[6:]},{'UIP' if 'oe' in patient.lower() else 'NSIP'},60")
    (folder / "clinical.csv").write_text("\n".join(rows) + "\n")
    prepare_folder(inbox, folder / "workspace", Preparation(), clinical=folder / "clinical.csv")
    (folder / "site.toml").write_text('[site]\nname = "alpha"\n')
    return Site.load(folder / "site.toml")


def test_one_patient_is_one_unit_on_one_side_of_every_split(tmp_path: Path) -> None:
    site = site_of(tmp_path)
    clip, sides = 0.5, set()
    for seed in range(40):  # pseudonyms are drawn anew each time: with few seeds the patient may never change sides
        experiment = Experiment.model_validate(
            {
                "name": "unit",
                "seed": seed,
                "data": {"classes": ["NSIP", "UIP"]},
                "inputs": {"columns": ["age"], "visits": "all"},
                "model": {"name": "logistic", "centre": [60.0], "spread": [5.0]},
                "evaluation": {"validation": 0.4},
                "privacy": {"unit": "patient", "noise_multiplier": 1.0, "clip": clip},
            }
        )
        training, validation = split_records(site, experiment)
        assert not set(training.names) & set(validation.names)
        assert training.patients + validation.patients == 4
        doe = [name for name, label in zip(training.names, training.labels, strict=True) if label == 1]
        sides.add(bool(doe))
        if not doe:
            assert validation.labels.sum() == 1  # judged by one visit
            continue
        assert (len(doe), len(set(doe))) == (3, 1)  # three visits; the second series of a day is no visit
        units = units_of(training, "patient")
        assert sorted(len(unit) for unit in units) == [1] * (training.patients - 1) + [3]
        model = build(experiment.model, inputs=1, outputs=2)
        state = initial_state(experiment.model, inputs=1, outputs=2, seed=0)
        others = training.take(np.flatnonzero(training.labels == 0))
        with_doe, without = (clipped_sums(model, state, one, units_of(one, "patient"), clip=clip) for one in (training, others))
        moved = np.sqrt(sum(float(((with_doe[key] - without[key]) ** 2).sum()) for key in model.parts(state)))
        assert 0 < moved <= clip * (1 + 1e-9)
    assert sides == {True, False}

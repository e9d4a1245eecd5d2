"""The words of a report that a doctor or an engineer may not share."""

from __future__ import annotations

GLOSSARY: list[tuple[str, str]] = [
    ("Federated", "Hospitals train one model together: each trains on its own patients and sends only the change of the model's numbers."),
    ("Round", "One exchange: the server sends the model, hospitals train and answer, the server combines the answers."),
    ("Strategy", "The rule by which the server combines the answers of a round."),
    ("Held-out hospital", "A hospital that took no part in training; its patients show how the model does in a place it has never seen."),
    ("Each alone", "The same model trained by one hospital on its own patients only, tested on the same held-out patients."),
    ("Pooled", "The same model trained on all hospitals' data in one place: usually not allowed, so it serves as an upper mark."),
    (
        "95 % interval",
        "The range of values that fit the data, given how few patients there are. Patients were drawn anew many times (bootstrap), or a formula was "
        "used (Wilson for accuracy, Newcombe for one AUROC).",
    ),
    ("n", "The number of cases behind a value."),
    ("Undefined", "The value does not exist for these cases, for example because a class is absent. It is not zero and not chance."),
    ("ROC curve", "Sensitivity against false alarms for every possible threshold."),
    ("Reliability", "Whether a stated probability comes true as often as it says; on the diagonal it does. Larger dots stand for more cases."),
    ("Confusion matrix", "How many cases of each true class were called which class."),
    ("Degraded round", "A round that was closed with fewer hospitals than planned."),
    ("Quarantined", "A CT study that failed a quality check and was kept away from training."),
    ("Phantom", "A CT volume made by a program, with disease planted in known places and amounts. It is no patient."),
    ("Planted risk", "The risk that phantoms' deaths were drawn from; it knows age and sex, too. No model can order patients better, but for luck."),
    ("Planted fibrosis", "How much fibrosis was planted in a phantom's first CT: about the best by which one image can order patients."),
    ("UIP", "Usual interstitial pneumonia: the pattern of idiopathic pulmonary fibrosis, with honeycombing."),
    ("NSIP", "Non-specific interstitial pneumonia: ground glass and reticulation, mostly at the lung bases."),
    ("OP", "Organising pneumonia: patches of consolidation."),
    ("HP", "Hypersensitivity pneumonitis: inhaled antigens; small nodules, ground glass and trapped air."),
]

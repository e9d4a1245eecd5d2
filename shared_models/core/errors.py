"""One tree of errors. Each names the rule, the value that broke it and the way out; each carries a code that may leave a site.

The *text* of an error may hold a path or a value and therefore stays where it was raised. What crosses the wire is `error.code` alone
(a fixed word such as ``E_COHORT``), so a folder named after a patient can never reach the server's log.

    FedILDError (E_FAILED)
    ├── BadInput (E_INPUT)             the user's file, option or data breaks a rule: exit code 2
    │   ├── BadChoice (E_CHOICE)       no such entry in a table, or a knob out of range
    │   ├── BadExperiment (E_EXPERIMENT) all faults of an experiment or site TOML at once
    │   ├── BadCohort (E_COHORT)       patients, visits or labels that contradict each other
    │   ├── BadStudy (E_STUDY)         a DICOM series that cannot become a volume
    │   ├── BadState (E_STATE)         a model state with wrong keys, shapes, types or values
    │   └── BadBundle (E_BUNDLE)       a released model that does not match its manifest
    ├── Refused (E_REFUSED)            policy, gate or update check said no
    └── Interrupted (E_INTERRUPTED)    quorum or deadline missed; the run can be continued
"""

from __future__ import annotations

from typing import Any


class FedILDError(Exception):
    """Root of all errors that this project raises on purpose.

    Parameters
    ----------
    rule : str
        What must hold, in words.
    value : Any, optional
        What was found instead.
    remedy : str, optional
        What the reader can do about it.
    code : str, optional
        Overrides the class's code.

    Examples
    --------
    >>> str(FedILDError("a cohort needs at least one patient", value=0, remedy="run `fedild prepare` first"))
    'a cohort needs at least one patient; found 0; run `fedild prepare` first'
    """

    code: str = "E_FAILED"

    def __init__(self, rule: str, *, value: Any = None, remedy: str = "", code: str | None = None) -> None:
        self.rule, self.value, self.remedy = rule, value, remedy
        if code is not None:
            self.code = code
        found = "" if value is None else f"; found {value!r}"
        super().__init__(f"{rule}{found}{'; ' + remedy if remedy else ''}")

    @property
    def line(self) -> str:
        """What a command shows of the error where it was raised: its code, to be looked up in the page of error codes, and its text.

        Examples
        --------
        >>> BadInput("a prior is of one study").line
        'error E_INPUT: a prior is of one study'
        """
        return f"error {self.code}: {self}"


class BadInput(FedILDError):
    """The user's file, option or data breaks a rule. The command line ends with exit code 2."""

    code = "E_INPUT"


class BadChoice(BadInput):
    """A name that is not in its table, or a knob that its function does not take."""

    code = "E_CHOICE"


class BadExperiment(BadInput):
    """An experiment or site TOML with faults; `faults` lists every one of them."""

    code = "E_EXPERIMENT"

    def __init__(self, rule: str, *, faults: list[str], remedy: str = "") -> None:
        self.faults = faults
        listed = "".join(f"\n  - {fault}" for fault in faults)
        super().__init__(f"{rule}: {len(faults)} fault{'s' if len(faults) != 1 else ''}{listed}", remedy=remedy)


class BadCohort(BadInput):
    """Patients, visits or labels that contradict each other."""

    code = "E_COHORT"


class BadStudy(BadInput):
    """A DICOM series that cannot become a volume. `reason` is a fixed word, safe to report."""

    code = "E_STUDY"

    def __init__(self, reason: str, rule: str, *, value: Any = None, remedy: str = "") -> None:
        self.reason = reason
        super().__init__(rule, value=value, remedy=remedy)


class BadState(BadInput):
    """A model state with wrong keys, shapes, types or values."""

    code = "E_STATE"


class BadBundle(BadInput):
    """A released model whose files do not match its manifest."""

    code = "E_BUNDLE"


class Refused(FedILDError):
    """Policy, gate or update check said no. `code` names the rule, never the data."""

    code = "E_REFUSED"


class Interrupted(FedILDError):
    """A run that cannot go on now (quorum or deadline missed) but can be continued."""

    code = "E_INTERRUPTED"

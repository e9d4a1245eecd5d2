"""CODES: the words with which a refusal or a failure may leave a site. Any other word leaves as ``E_WORKER``.

A code is raised by code, and code may be a researcher's: without this table the word itself could carry a name or a number out.
"""

from __future__ import annotations

FALLBACK = "E_WORKER"

CODES = frozenset(
    {
        # errors of their own class
        *("E_FAILED", "E_INPUT", "E_CHOICE", "E_EXPERIMENT", "E_COHORT", "E_STUDY", "E_STATE", "E_BUNDLE", "E_REFUSED", "E_INTERRUPTED"),
        # policy
        *("E_POLICY_MODEL", "E_POLICY_TASK", "E_POLICY_STRATEGY", "E_POLICY_SUM", "E_POLICY_PRIVACY", "E_POLICY_NOISE", "E_POLICY_KEYS"),
        *("E_POLICY_LEAF", "E_POLICY_STATISTIC"),
        # gate
        *("E_FEW_CASES", "E_KEYS", "E_VALUES", "E_PAYLOAD", "E_METRIC", "E_UNUSED", "E_OUTPUT"),
        # secure sum
        *("E_SECURE_SUM", "E_MASK_GROUP", "E_MASK_KEYS", "E_MASK_RANGE", "E_MASK_ROUND", "E_MASK_SIGNATURE", "E_MASK_SITES", "E_MASK_USED"),
        *("E_PEER_KEY", "E_NORM"),
        # ledger
        *("E_PRIVACY_DELTA", "E_LEDGER", "E_RECEIPT", "E_BUDGET", "E_BUDGET_RUN", "E_SPEND", "E_UNCHARGED"),
        # approvals, keys, processes
        *("E_NOT_APPROVED", "E_APPROVALS", "E_AUDIT", "E_APP", "E_KEY_FILE", "E_SIGNATURE", "E_FINGERPRINT", "E_CONSORTIUM", "E_NAME"),
        *("E_AUTHORITY", "E_DEVICE", "E_NO_WORKER", "E_STOPPED", "E_MEMORY", "E_CACHE", "E_WORKER", "E_MESSENGER", "E_STRATEGY_STATE"),
        *("E_WEIGHTS", "E_RESTS", "E_PAGE_OPEN"),
        # studies on their way in
        *("E_ARCHIVE", "E_PACS"),
        # results of a prediction
        *("E_SCHEMA",),
    }
)


def outward(code: str) -> str:
    """Return `code` when it may leave, else the word that says no more than that the worker failed.

    Examples
    --------
    >>> outward("E_FEW_CASES"), outward("E_DOE_JOHN_1957"), outward("")
    ('E_FEW_CASES', 'E_WORKER', '')
    """
    return code if code in CODES or not code else FALLBACK

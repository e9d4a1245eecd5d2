"""The page of error codes: every word that may leave a site, with the rules that the sources raise under it."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

from docs.gen.markdown import code, table

ROOT = Path(__file__).parents[2]
PACKAGES = ("shared_models", "client", "server", "sim")


def rules() -> dict[str, list[str]]:
    """Return the rules that the sources raise under each code, by code."""
    found: dict[str, set[str]] = defaultdict(set)
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and node.args:
                    for keyword in node.keywords:
                        if keyword.arg == "code" and isinstance(keyword.value, ast.Constant) and str(keyword.value.value).startswith("E_"):
                            found[str(keyword.value.value)].add(_words(node.args[0]))
    return {name: sorted(filter(None, words)) for name, words in found.items()}


def _words(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
    return ""


def codes_page() -> str:
    """Return the page."""
    from client.privacy.codes import CODES, FALLBACK
    from shared_models.core import errors

    classes = {one.code: one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, errors.FedILDError)}
    said = rules()
    rows = []
    for name in sorted(CODES):
        text = (classes[name].__doc__ or "").partition("\n")[0] if name in classes else ""
        rows.append((code(name), text or "; ".join(said.get(name, [])[:4]) or "told in full in the site's own log"))
    lead = (
        "Where something is refused or fails, the *code* alone leaves a hospital; the sentence with the value and the way out stays in its own log "
        "(`fedild site log`). A command run by hand shows both, as `error E_INPUT: ...`. "
        f"Any other word leaves as `{FALLBACK}`. What to do about frequent ones: [deploy](../deploy.md#when-it-does-not-work)."
    )
    return f"# Error codes\n\n{lead}\n\n{table(('code', 'rule'), rows)}\n"

"""A page of each system of the survey: its source, what was ambiguous, what was chosen, what its authors report, how it is run, its picture."""

from __future__ import annotations

import re
from dataclasses import dataclass

from docs.gen.markdown import table
from docs.gen.picture import picture
from sim.experiments import find, shipped
from sim.zoo.systems import recipes, system_of


@dataclass(frozen=True)
class Recipe:
    """What the head of a recipe says.

    Parameters
    ----------
    about, ambiguous, chosen : str
        Sentences of the comment above the first key.
    source : str
        Papers.
    reported : str
        Figures of the authors, with who says so; empty where none are recorded.
    """

    about: str
    ambiguous: str
    chosen: str
    source: str
    reported: str


def recipe_of(name: str) -> Recipe:
    """Read the head of a shipped recipe.

    Examples
    --------
    >>> recipe = recipe_of("mufinet")
    >>> recipe.ambiguous[:21], recipe.reported[:34]
    ('Classes, image size, ', 'Reported by its authors, not by us')
    """
    lines = shipped()[name].read_text(encoding="utf-8").split("\n")
    comment = " ".join(line.removeprefix("#").strip() for line in lines[: next(i for i, line in enumerate(lines) if not line.startswith("#"))])
    parts = re.split(r"\b(Ambiguous|Chosen)(?: in the survey:|(?: here)?:|(?= as in )) ", comment)
    told = {"Ambiguous": "", "Chosen": ""}
    for word, text in zip(parts[1::2], parts[2::2], strict=True):
        told[word] = f"{told[word]} {text[:1].upper()}{text[1:].strip()}".strip()
    source, found, reported = find(name, []).source.partition("Reported by ")
    return Recipe(parts[0].strip(), told["Ambiguous"], told["Chosen"], source.strip(" .;"), f"{found}{reported}".strip())


def system_page(name: str) -> str:
    """Return the page of a system."""
    recipe, experiment, system = recipe_of(name), find(name, []), system_of(name)
    big = f"{name}_base"
    path = shipped()[name]
    parts = [
        f"# {name}",
        f"**{experiment.title}.** Research use only.",
        picture(experiment, label=f"{experiment.title}: from a hospital's CT to what travels"),
        recipe.about,
        "## Source",
        recipe.source,
        f'!!! quote "Theirs, not ours"\n    {recipe.reported or "No figures of its authors are recorded."}',
        "## What the source leaves open",
        recipe.ambiguous or "Nothing is noted beyond what was chosen.",
        "## What was chosen",
        recipe.chosen or "See the settings below.",
        "## Run it",
        f"```sh\nfedild simulate {name} --out runs/{name}\nfedild zoo --out runs/zoo --only {name}\n```",
        "The first federates the small size over phantom hospitals and ends with the path of a report; the second asks all that is asked of it, too.",
        f"`{big}` is its size for one GPU: `fedild simulate {big} --out runs/{big}`." if big in shipped() else "",
        f"It starts from the release of [{system.after}]({system.after}.md), which the zoo runs first." if system.after else "",
        "## What it must do to count as working",
        "On phantoms: no worse than the mean of the hospitals alone, within 0.05 of all data pooled"
        + (", and:" if system.asked else "; nothing more is asked of it."),
        table(("figure", "asked"), [(one.says, one.bound or "told only") for one in system.asked]),
        "What was measured so far stands in [the zoo](../zoo.md#run-so-far).",
        "## Settings",
        f'??? note "{path.name}"\n    ```toml\n'
        + "\n".join(f"    {line}".rstrip() for line in path.read_text(encoding="utf-8").splitlines())
        + "\n    ```",
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def index_page() -> str:
    """Return the page that lists all systems."""
    rows = []
    for name in recipes():
        experiment, task = find(name, []), system_of(name).task
        rows.append((f"[{name}]({name}.md)", task, experiment.model.name, recipe_of(name).source))
    lead = (
        "Each system of the field survey is a recipe that `fedild simulate NAME` runs over phantom hospitals in a small size. Figures of the authors "
        "are marked as theirs; they are of other patients and never a bound here. What was measured on phantoms stands in [the zoo](../zoo.md)."
    )
    return f"# Systems\n\n{lead}\n\n{table(('system', 'task', 'model', 'source'), rows)}\n"


def recipe_pages() -> dict[str, str]:
    """Return the pages of all systems by their path in the site."""
    return {"systems/index.md": index_page()} | {f"systems/{name}.md": system_page(name) for name in recipes()}

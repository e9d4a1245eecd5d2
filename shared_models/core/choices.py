"""Choices: a name from a literal table plus knobs, validated against the chosen function's own signature.

Positional arguments of a table entry come from the system; keyword-only ones are what a TOML may set, and their type hints are the schema.
`pick` looks the name up, validates the knobs and binds them: the one door through which a TOML reaches code.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import math
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from shared_models.core.errors import BadChoice, BadExperiment, BadInput


class Section(BaseModel):
    """A table of a TOML: unknown keys are refused, values are frozen once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class Choice(BaseModel):
    """``{name = "densenet121", growth_rate = 16}``: a name and the knobs of what it names.

    Examples
    --------
    >>> Choice(name="median", radius=2).knobs
    {'radius': 2}
    """

    model_config = ConfigDict(extra="allow", frozen=True, protected_namespaces=())

    name: Annotated[str, Field(min_length=1)]

    @property
    def knobs(self) -> dict[str, Any]:
        """All keys but the name."""
        return dict(self.__pydantic_extra__ or {})


def knobs_of(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Return the keyword-only parameters of `function`: those that a TOML may set.

    Examples
    --------
    >>> def blur(image, *, radius: int = 1): ...
    >>> list(knobs_of(blur))
    ['radius']
    """
    return {name: p for name, p in inspect.signature(function).parameters.items() if p.kind is inspect.Parameter.KEYWORD_ONLY}


def knob_types(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the evaluated type hints of the keyword-only parameters. Other hints stay unevaluated: they may name what is not imported.

    Examples
    --------
    >>> def blur(image: "Unknown", *, radius: int = 1): ...
    >>> knob_types(blur)
    {'radius': <class 'int'>}
    """
    wanted = {name: hint for name, hint in getattr(function, "__annotations__", {}).items() if name in knobs_of(function)}
    known = getattr(inspect.unwrap(function), "__globals__", {})  # a wrapped function's hints are written where it was defined
    return get_type_hints(SimpleNamespace(__annotations__=wanted), globalns=known, include_extras=True)


@functools.lru_cache(maxsize=256)  # a training step picks its parts every round
def _schema(function: Callable[..., Any]) -> type[BaseModel]:
    hints = knob_types(function)
    fields: dict[str, Any] = {}
    for name, parameter in knobs_of(function).items():
        default = ... if parameter.default is inspect.Parameter.empty else parameter.default
        fields[name] = (hints.get(name, Any), default)
    return create_model("Knobs", __config__=ConfigDict(extra="forbid", arbitrary_types_allowed=True, protected_namespaces=()), **fields)


def faults_of(error: ValidationError, where: str = "") -> list[str]:
    """Turn a pydantic error into one plain line a fault: place, rule, value.

    Examples
    --------
    >>> class Train(Section):
    ...     epochs: int
    >>> try:
    ...     Train(epochs="two")
    ... except ValidationError as error:
    ...     faults_of(error, "train")
    ["train.epochs: input should be a valid integer, unable to parse string as an integer; found 'two'"]
    """
    lines = []
    for fault in error.errors(include_url=False):
        place = ".".join(str(part) for part in (*([where] if where else []), *fault["loc"]))
        if fault["type"] == "extra_forbidden":
            lines.append(f"{place}: no such key; remove it or correct its spelling")
        elif fault["type"] == "missing":
            lines.append(f"{place}: is required")
        else:
            message = fault["msg"].removeprefix("Value error, ")
            value = fault.get("input")
            shown = f"; found {value!r}" if isinstance(value, str | int | float | bool | list | tuple) else ""
            lines.append(f"{place}{': ' if place else ''}{message[:1].lower()}{message[1:]}{shown}")
    return lines


def look_up(table: Mapping[str, Any], name: str, *, kind: str) -> Any:
    """Return ``table[name]``, or say what is there and what was probably meant.

    Examples
    --------
    >>> try:
    ...     look_up({"median": 1, "mean": 2}, "medain", kind="step")
    ... except BadChoice as error:
    ...     print(error)
    no step 'medain'; did you mean 'median'? (choose from: mean, median)
    """
    if name in table:
        return table[name]
    close = difflib.get_close_matches(name, table, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise BadChoice(f"no {kind} {name!r}", remedy=f"{hint}(choose from: {', '.join(sorted(table))})")


def pick(
    table: Mapping[str, Any], choice: Choice, *, kind: str = "entry", get: Callable[[Any], Callable[..., Any]] | None = None
) -> Callable[..., Any]:
    """Look `choice` up in `table`, validate its knobs against the signature, and bind them.

    Parameters
    ----------
    table : mapping of name to entry
        A literal table such as ``STEPS``.
    choice : Choice
        Name and knobs from a TOML.
    kind : str
        What an entry is called in messages.
    get : callable, optional
        Takes the function out of an entry that is more than a function (a ``ModelSpec``).

    Returns
    -------
    callable
        The function with its knobs bound; call it with what the system supplies.

    Raises
    ------
    BadChoice
        Unknown name (with the nearest one), unknown knob, or a value outside its type or range.

    Examples
    --------
    >>> def shift(x, *, by: int = 1):
    ...     return x + by
    >>> pick({"shift": shift}, Choice(name="shift", by=3), kind="step")(1)
    4
    """
    entry = look_up(table, choice.name, kind=kind)
    function = get(entry) if get else entry
    knobs = choice.knobs
    allowed = knobs_of(function)
    faults = []
    for name in knobs:
        if name not in allowed:
            close = difflib.get_close_matches(name, allowed, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else f"; it takes {', '.join(allowed) or 'no knobs'}"
            faults.append(f"{kind} {choice.name!r} has no knob {name!r}{hint}")
    if not faults:
        try:
            checked = _schema(function)(**knobs)
            return functools.partial(function, **{name: getattr(checked, name) for name in allowed})
        except ValidationError as error:
            faults = faults_of(error, f"{kind} {choice.name!r}")
    raise BadChoice("; ".join(faults))


def load_toml(path: str | Path) -> dict[str, Any]:
    """Read a TOML file as plain dictionaries.

    Raises
    ------
    BadInput
        The file is missing, is not UTF-8 or is not TOML (with line and column).
    """
    path = Path(path)
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInput("the TOML file must exist", value=str(path), remedy="check the path") from None
    except UnicodeDecodeError:
        raise BadInput("a TOML file must be UTF-8", value=str(path), remedy="save it as UTF-8") from None
    except IsADirectoryError:
        raise BadInput("a TOML file was expected", value=str(path), remedy="name the file, not its folder") from None
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"{path.name} must be valid TOML", value=str(error), remedy="correct that line") from None


def load_over(path: str | Path) -> dict[str, Any]:
    """Read a TOML over the one beside it that its ``extends`` names: the same experiment in another size says only what differs.

    Raises
    ------
    BadInput
        As `load_toml`; or the other TOML extends a third.
    """
    document = load_toml(path)
    if "extends" not in document:
        return document
    name = document.pop("extends")
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,63}", name):
        raise BadInput("extends names the TOML beside this one, without its ending", value=name)
    base = load_toml(Path(path).parent / f"{name}.toml")
    if "extends" in base:
        raise BadInput("a TOML that is extended extends no other", value=name, remedy="extend the first one")
    return laid_over(base, document)


def laid_over(base: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    """Return `base` with `document` over it: tables key by key; a table with a name is a choice and, as any list, replaces the other whole.

    Examples
    --------
    >>> laid_over({"model": {"name": "vgg16", "width": 8}, "train": {"batch": 4}}, {"model": {"name": "vgg16"}, "train": {"epochs": 2}})
    {'model': {'name': 'vgg16'}, 'train': {'batch': 4, 'epochs': 2}}
    """
    over = dict(base)
    for key, value in document.items():
        here = base.get(key)
        merge = isinstance(value, dict) and isinstance(here, dict) and "name" not in value
        over[key] = laid_over(here, value) if merge else value  # type: ignore[arg-type]
    return over


def apply_overrides(document: dict[str, Any], settings: list[str]) -> dict[str, Any]:
    """Apply ``--set table.key=value`` to a read TOML; the value is TOML itself, or else a plain string.

    Examples
    --------
    >>> apply_overrides({"train": {"epochs": 1}}, ["train.epochs=2", "model.name=resnet18"])
    {'train': {'epochs': 2}, 'model': {'name': 'resnet18'}}
    """
    document = {key: dict(value) if isinstance(value, dict) else value for key, value in document.items()}
    faults = []
    for setting in settings:
        path, found, text = setting.partition("=")
        keys = path.strip().split(".")
        if not found or not all(keys):
            faults.append(f"--set takes table.key=value; found {setting!r}")
            continue
        try:
            value = tomllib.loads(f"value = {text.strip()}")["value"]
        except tomllib.TOMLDecodeError:
            value = text.strip()
        here = document
        for key in keys[:-1]:
            inner = here.get(key, {})
            if not isinstance(inner, dict):
                faults.append(f"--set {path.strip()}: {key!r} is a value, not a table")
                break
            here[key] = dict(inner)
            here = here[key]
        else:
            here[keys[-1]] = value
    if faults:
        raise BadExperiment("overrides", faults=faults, remedy="for example --set train.epochs=2")
    return document


def validated(section: type[Section], document: Mapping[str, Any], *, what: str) -> Any:
    """Build `section` from a read TOML, listing all faults at once.

    Raises
    ------
    BadExperiment
        With every fault: place, rule and value.
    """
    faults = [f"{place}: input should be a finite number; found {value!r}" for place, value in _not_finite(document)]
    try:
        read = section.model_validate(document)
    except ValidationError as error:
        faults += [fault for fault in faults_of(error) if fault not in faults]
    if faults:
        raise BadExperiment(what, faults=faults)
    return read


def _not_finite(value: Any, place: str = "") -> Iterator[tuple[str, float]]:
    if isinstance(value, float) and not math.isfinite(value):
        yield place, value
    elif isinstance(value, Mapping | list):
        for key, inner in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _not_finite(inner, f"{place}.{key}" if place else str(key))

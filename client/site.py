"""The site TOML: who this hospital is, where its data lie, and what it allows. Read by the hospital's own programs only.

[site]     name, inbox (DICOM folder), clinical (CSV), annotations (label maps), patches (NPZ) or table (CSV) instead of studies, workspace,
           device, watch (the inbox) and prepare_for (an experiment TOML)
[deidentification] dates (shift or remove) and characteristics (keep or clean) of the headers; names and ids always go
[policy]   models, tasks, strategies, statistics, minimum numbers, metrics and keys that may leave, secure sum; [policy.privacy] likewise
[receiver] of studies that are pushed here; [pacs] to fetch studies from; [limits] of one study (client/intake/settings.py)
[server]   address to dial and name of the consortium; written by `fedild site join`
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from client.intake.settings import Pacs, Receiver, StudyLimits
from shared_models.core.choices import Section, load_toml, validated
from shared_models.experiment import Name


class Place(Section):
    """Name, folders and device of a site; relative paths count from the site TOML.

    `annotations` is a folder of label maps that readers have drawn (`client/cases/annotation`). With `watch` the daemon prepares what arrives in
    the inbox; studies are prepared as the experiment TOML `prepare_for` wants them.
    `device` is ``auto`` (the first GPU, or the processor without one), ``cpu``, ``cuda`` or ``cuda:1``.
    """

    name: Name
    inbox: str = "dicom"
    clinical: str = "clinical.csv"
    annotations: str | None = None
    patches: str | None = None
    table: str | None = None
    workspace: str = "workspace"
    watch: bool = False
    prepare_for: str | None = None
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d{1,2})?)$")] = "auto"


class Deidentification(Section):
    """``[deidentification]``: the options of PS3.15 annex E that this hospital takes beside the Basic Profile.

    `dates` ``shift`` keeps the days between a patient's visits (E.3.6), ``remove`` keeps no interval. `characteristics` ``keep`` lets age (90 at
    most), sex, size and weight of the header pass (E.3.9), ``clean`` removes them.
    """

    dates: Literal["shift", "remove"] = "shift"
    characteristics: Literal["keep", "clean"] = "keep"


class PrivacyPolicy(Section):
    """``[policy.privacy]``: what differential privacy this hospital asks for. Naming any limit requires it.

    `epsilon_limit` is what a patient may spend here in all, `epsilon_per_run` in one run, both at `delta`. `units` are those that an
    experiment may protect, `least_noise` its least noise multiplier, and fewer than `least_patients` patients take no part: below some
    fifty the expected batch itself tells how many there are.
    """

    required: bool = False
    units: tuple[Literal["patient", "record", "site"], ...] = ("patient",)
    epsilon_limit: Annotated[float, Field(gt=0)] | None = None
    epsilon_per_run: Annotated[float, Field(gt=0)] | None = None
    least_noise: Annotated[float, Field(gt=0)] | None = None
    delta: Annotated[float, Field(gt=0, le=0.01)] = 1e-5
    least_patients: Annotated[int, Field(ge=1)] = 50

    @property
    def is_required(self) -> bool:
        """Whether only private training runs here: asked for, or implied by a limit."""
        return self.required or any(limit is not None for limit in (self.epsilon_limit, self.epsilon_per_run, self.least_noise))


class Policy(Section):
    """What this hospital allows. An experiment cannot weaken it; ``*`` allows every name.

    A metric leaves only when at least `min_cases` patients stand behind it, and one that is computed per class only when every class
    that is present has at least `min_per_class`; `rounding` and `support` set other decimals and more patients for single metrics. Arrays
    leave only under the names of `keys` (patterns as of a shell). With fewer than `min_cases` patients, but at least `min_cases_in_sum`, a
    hospital takes part through the secure sum alone, where its numbers are seen in the sum of at least three; not set, it is `min_cases`.
    """

    models: tuple[str, ...] = ("*",)
    tasks: tuple[str, ...] = ("*",)
    strategies: tuple[str, ...] = ("*",)
    statistics: tuple[str, ...] = ("*",)
    min_cases: Annotated[int, Field(ge=1)] = 10
    min_cases_in_sum: Annotated[int, Field(ge=1)] | None = None
    min_per_class: Annotated[int, Field(ge=1)] = 5
    metrics: tuple[str, ...] = (
        *("train_loss", "received_loss", "val_loss", "val_accuracy", "val_auroc_macro", "val_harrell_c", "val_dice", "val_cases"),
        *("drawn_mean_error_hu", "drawn_sd_error", "drawn_pair_ssim", "drawn_memory_ratio", "drawn_frechet"),
    )
    decimals: Annotated[int, Field(ge=1, le=12)] = 4
    rounding: dict[str, Annotated[int, Field(ge=0, le=12)]] = Field(default_factory=dict)
    support: dict[str, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)
    keys: tuple[str, ...] = ("*",)
    max_payload_mb: Annotated[float, Field(gt=0)] = 2048.0
    secure_sum: bool = False
    privacy: PrivacyPolicy = PrivacyPolicy()

    def least_cases(self, *, summed: bool) -> int:
        """Return how many patients must stand behind what leaves in clear, or under the masks of a secure sum.

        Examples
        --------
        >>> tiny = Policy(min_cases_in_sum=2)
        >>> tiny.least_cases(summed=False), tiny.least_cases(summed=True), Policy().least_cases(summed=True)
        (10, 2, 10)
        """
        return self.min_cases if not summed or self.min_cases_in_sum is None else min(self.min_cases, self.min_cases_in_sum)

    def least_per_class(self, *, summed: bool) -> int:
        """Return how many patients must stand behind a number about one class."""
        if not summed or self.min_cases_in_sum is None:
            return self.min_per_class
        return min(self.min_per_class, self.min_cases_in_sum)


class Link(Section):
    """The one server that this site dials: ``host:port``, and the consortium's name."""

    address: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+:\d{1,5}$")]
    name: Name


class Site(Section):
    """A site as its TOML describes it."""

    site: Place
    deidentification: Deidentification = Deidentification()
    policy: Policy = Policy()
    server: Link | None = None
    receiver: Receiver | None = None
    pacs: Pacs | None = None
    limits: StudyLimits = StudyLimits()
    folder: Path = Path()

    @staticmethod
    def load(path: str | Path) -> Site:
        """Read a site TOML; all faults are listed at once."""
        path = Path(path)
        document: dict[str, Any] = dict(load_toml(path))
        site = validated(Site, document, what=f"site {path.name}")
        return site.model_copy(update={"folder": path.resolve().parent})

    def path(self, relative: str) -> Path:
        """Return a path of the TOML, counted from the TOML's folder."""
        return self.folder / relative

    @property
    def workspace(self) -> Path:
        """The folder of everything that this site makes: key, cache, cohort, logs."""
        return self.path(self.site.workspace)

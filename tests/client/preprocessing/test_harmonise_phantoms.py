"""A texture reader trained on a soft kernel, then shown a sharp one it has never seen: planted extent with and without harmonising.

The reader is a quadratic discriminant on local histograms (deviation, both tails) and the distance to the pleura, which methods 4.3 tried:
it takes the noise of a sharp kernel for fibrosis.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from scipy import ndimage

from client.cases.prepared import Prepared
from client.cases.volume import Volume
from client.preprocessing.harmonise import harmonise
from client.preprocessing.noise import measure_noise
from client.preprocessing.sharpness import measure_sharpness
from sim.phantom.patient import Phantom, make_phantom
from sim.scanner.scanner import SCANNERS, at_scan, scan

RESOLUTION, GRID_MM, GAP_MM, WINDOW_MM = 2.0, 2.0, 12.0, 6.0
TARGET = {"mtf50_per_mm": 0.12, "noise_hu": 6.0}
"""The softest scanner of the table at this resolution, and a noise that all of them can reach."""
FIBROSIS = (2, 3)


@dataclass(frozen=True)
class Read:
    """A scan with its truth: lung, and which of its voxels are fibrosis."""

    volume: Volume
    lung: np.ndarray
    fibrous: np.ndarray

    def harmonised(self) -> Read:
        return replace(self, volume=harmonise(Prepared(self.volume), **TARGET).volume)

    @property
    def laa950(self) -> float:
        return 100 * float((self.volume.hu[self.lung] < -950).mean())


def scanned(phantoms: list[Phantom], scanner: str) -> list[Read]:
    machine = SCANNERS[scanner].at(RESOLUTION)
    machine = replace(machine, spacing_mm=GAP_MM)  # few slices: the test is about the plane
    out = []
    for phantom in phantoms:
        one = scan(phantom, machine, seed=7)
        lung = at_scan(phantom.lung, phantom, one) > 0
        volume = Volume(np.maximum(one.hu, -1024).astype(np.float32), one.spacing_mm)
        out.append(Read(volume, lung, np.isin(at_scan(phantom.labels, phantom, one)[lung], FIBROSIS)))
    return out


def described(read: Read) -> np.ndarray:
    pixel, lung = read.volume.spacing_mm[2], read.lung
    size = max(3, 2 * round(WINDOW_MM / pixel / 2) + 1)
    weight = np.maximum(ndimage.uniform_filter(lung.astype(np.float32), (1, size, size)), 1e-3)

    def local(values: np.ndarray) -> np.ndarray:
        return ndimage.uniform_filter((values * lung).astype(np.float32), (1, size, size)) / weight

    hu = np.clip(read.volume.hu, -1024, 100)
    deviation = np.sqrt(np.maximum(local(hu * hu) - local(hu) ** 2, 0))
    pleura = np.stack([ndimage.distance_transform_edt(plane) * pixel for plane in lung])
    return np.stack([deviation[lung], local(hu > -600)[lung], local(hu < -925)[lung], np.minimum(pleura[lung], 40)], axis=1)


def trained(reads: list[Read]) -> list[tuple[np.ndarray, np.ndarray, float]]:
    x, y = np.concatenate([described(read) for read in reads]), np.concatenate([read.fibrous for read in reads])
    out = []
    for klass in (False, True):
        covariance = np.cov(x[y == klass].T) + 1e-6 * np.eye(x.shape[1])
        out.append((x[y == klass].mean(axis=0), np.linalg.inv(covariance), 2 * np.log(np.mean(y == klass)) - np.linalg.slogdet(covariance)[1]))
    return out


def bias(model: list[tuple[np.ndarray, np.ndarray, float]], reads: list[Read]) -> np.ndarray:
    """Found less planted extent, percentage points, of each patient."""
    found = []
    for read in reads:
        x = described(read)
        score = [offset - np.einsum("ni,ij,nj->n", x - mean, precision, x - mean) for mean, precision, offset in model]
        found.append(100 * float((score[1] > score[0]).mean() - read.fibrous.mean()))
    return np.array(found)


@pytest.fixture(scope="module")
def training() -> list[Read]:
    return scanned([make_phantom(k, seed=s, grid_mm=GRID_MM, body=1) for k, s in (("UIP", 1), ("NSIP", 2), ("normal", 3), ("UIP", 4))], "A")


@pytest.fixture(scope="module")
def tested() -> dict[str, list[Read]]:
    phantoms = [make_phantom(k, seed=s, grid_mm=GRID_MM, body=1) for k, s in (("UIP", 11), ("NSIP", 12), ("normal", 14), ("CPFE", 13))]
    return {name: scanned(phantoms, name) for name in ("A", "B")}


@pytest.fixture(scope="module")
def matched(tested: dict[str, list[Read]]) -> dict[str, list[Read]]:
    return {name: [read.harmonised() for read in reads] for name, reads in tested.items()}


def test_extent_on_an_unseen_sharp_kernel_is_within_3_points(
    training: list[Read], tested: dict[str, list[Read]], matched: dict[str, list[Read]]
) -> None:
    assert bias(trained(training), tested["B"]).mean() > 10
    model = trained([read.harmonised() for read in training])
    soft, sharp = bias(model, matched["A"]), bias(model, matched["B"])
    assert abs(sharp.mean()) < 3
    assert np.abs(sharp - soft).max() < 3


def test_low_attenuation_of_the_sharp_kernel_is_that_of_the_soft_one(tested: dict[str, list[Read]], matched: dict[str, list[Read]]) -> None:
    raw = np.array([[read.laa950 for read in tested[name]] for name in ("A", "B")])
    after = np.array([[read.laa950 for read in matched[name]] for name in ("A", "B")])
    assert (raw[1] - raw[0]).min() > 4
    assert np.abs(after[1] - raw[0]).max() < 1 and np.abs(after[1] - after[0]).max() < 0.5
    assert after[1, :3].max() < 0.5 < 3 < after[1, 3], "only the patient with emphysema has low attenuation left"


def test_sharpness_and_noise_reach_the_target(tested: dict[str, list[Read]], matched: dict[str, list[Read]]) -> None:
    for before, after in zip(tested["B"], matched["B"], strict=True):
        assert measure_sharpness(before.volume).mtf50_per_mm > 1.4 * TARGET["mtf50_per_mm"] and measure_noise(before.volume) > 40
        assert measure_sharpness(after.volume).mtf50_per_mm == pytest.approx(TARGET["mtf50_per_mm"], rel=0.08)
        assert measure_noise(after.volume) == pytest.approx(TARGET["noise_hu"], rel=0.15)
        np.testing.assert_allclose(after.volume.hu.mean(), before.volume.hu.mean(), atol=2)

"""How drawn images compare with real ones: level and spread, variety, distance to what was learnt from, distance of distributions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

Floats = NDArray[np.floating]


def frechet_distance(drawn: Floats, real: Floats) -> float:
    """Return the squared Fréchet distance of two sets of feature vectors, each taken for normal.

    ``|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2))``. With few images it is biased upwards: compare it with that of held-out real images.

    Parameters
    ----------
    drawn, real : ndarray, shape (n, features) and (m, features)
        At least two images each.

    Notes
    -----
    Heusel et al., GANs trained by a two time-scale update rule, NeurIPS 2017, equation 6.

    Examples
    --------
    >>> round(frechet_distance(np.array([[0.0], [2.0]]), np.array([[3.0], [7.0]])), 6)  # means 1 and 5, variances 2 and 8
    18.0
    """
    mean_1, mean_2 = np.mean(drawn, 0, dtype=np.float64), np.mean(real, 0, dtype=np.float64)
    spread_1, spread_2 = (np.atleast_2d(np.cov(np.asarray(part, np.float64), rowvar=False)) for part in (drawn, real))
    values, vectors = np.linalg.eigh(spread_1)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    both = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ spread_2 @ root), 0)).sum()
    return float(max(0.0, ((mean_1 - mean_2) ** 2).sum() + np.trace(spread_1) + np.trace(spread_2) - 2 * both))


def pairwise_ssim(images: Floats, *, side: int = 7) -> float:
    """Return the mean structural similarity over all pairs of images (n, y, x) in 0..1; 1 where all are one image.

    Parameters
    ----------
    side : int
        Of the square window in pixels, at most that of the image.

    Notes
    -----
    Wang et al., Image quality assessment: from error visibility to structural similarity, IEEE TIP 2004, equation 13, with a flat window.

    Examples
    --------
    >>> pairwise_ssim(np.tile(np.linspace(0, 1, 16).reshape(1, 4, 4), (3, 1, 1)))
    1.0
    """
    images = np.asarray(images, np.float64)
    window = min(side, *images.shape[1:])
    means = [_smooth(image, window) for image in images]
    spreads = [_smooth(image * image, window) - mean * mean for image, mean in zip(images, means, strict=True)]
    found = []
    for i in range(len(images)):
        for j in range(i):
            shared = _smooth(images[i] * images[j], window) - means[i] * means[j]
            light = (2 * means[i] * means[j] + 1e-4) / (means[i] ** 2 + means[j] ** 2 + 1e-4)
            found.append(float((light * (2 * shared + 9e-4) / (spreads[i] + spreads[j] + 9e-4)).mean()))
    return float(np.mean(found))


def _smooth(image: Floats, window: int) -> Floats:
    return np.asarray(uniform_filter(image, window))


def nearest(images: Floats, known: Floats) -> NDArray[np.float64]:
    """Return the root-mean-square distance of each image (n, y, x) to the nearest of `known` (m, y, x), shape (n,).

    Examples
    --------
    >>> nearest(np.ones((1, 2, 2)), np.array([np.zeros((2, 2)), np.full((2, 2), 0.5)])).tolist()
    [0.5]
    """
    flat, others = (np.asarray(part, np.float64).reshape(len(part), part[:1].size or 1) for part in (images, known))
    return np.array([np.sqrt(((others - one) ** 2).mean(1).min()) for one in flat])


def level_and_spread(images: Floats, *, blank: float = 0.05) -> tuple[float, float]:
    """Return the mean and standard deviation of the pixels of images in 0..1 above `blank`: what lies outside the lungs is not counted.

    Examples
    --------
    >>> level_and_spread(np.array([[0.0, 0.25, 0.75]]))
    (0.5, 0.25)
    """
    seen = np.asarray(images, np.float64)
    seen = seen[seen > blank]
    return (float(seen.mean()), float(seen.std())) if len(seen) else (0.0, 0.0)


def psnr_db(image: Floats, truth: Floats) -> float:
    """Return the peak signal-to-noise ratio of images in 0..1 against their truth, in dB.

    Examples
    --------
    >>> round(psnr_db(np.full(4, 0.1), np.zeros(4)), 6)
    20.0
    """
    return float(-10 * np.log10(max(np.mean((np.asarray(image, np.float64) - truth) ** 2), 1e-12)))

"""The texture signature of a patch: fixed features that neither quarter turns nor mirroring change, so that nothing needs to be learnt."""

from __future__ import annotations

import numpy as np

HU_RANGE = (-1050.0, -400.0)
SMOOTHING_PX = (0.0, 0.8, 1.6, 3.2)
LOW_ATTENUATION_HU = (-950.0, -910.0, -856.0)


def root_histogram(values: np.ndarray, low: float, high: float, bins: int) -> np.ndarray:
    """Return the square root of each row's histogram, a value between two bin centres being shared between both.

    The root makes Euclidean distances between rows Hellinger distances between distributions.

    Parameters
    ----------
    values : ndarray, shape (n, ...)
        Values outside `low`..`high` count at the nearer end.
    low, high : float
        First and last bin centre.
    bins : int
        Number of centres.

    Returns
    -------
    ndarray, shape (n, bins)

    Examples
    --------
    >>> root_histogram(np.array([[0.0, 0.0, 1.5, 2.0]]), 0.0, 2.0, 3) ** 2
    array([[0.5  , 0.125, 0.375]])
    """
    flat = np.asarray(values, np.float64).reshape(len(values), -1)
    place = np.clip((flat - low) * ((bins - 1) / (high - low)), 0, bins - 1)
    left = np.minimum(place.astype(np.int64), bins - 2)
    upper = place - left
    at = (left + bins * np.arange(len(flat))[:, None]).ravel()
    counts = np.bincount(at, (1 - upper).ravel(), bins * len(flat)) + np.bincount(at + 1, upper.ravel(), bins * len(flat))
    return np.sqrt(counts.reshape(len(flat), bins) / flat.shape[1])


def texture_signature(hu: np.ndarray) -> np.ndarray:
    """Return the features of HU patches.

    Root histograms of HU and of a band-pass at four scales; of the gradient's length and of both Hessian eigenvalues at three; number,
    largest and mean size of the connected areas below -950, -910 and -856 HU.

    Parameters
    ----------
    hu : ndarray, shape (n, y, x)
        Hounsfield units.

    Returns
    -------
    ndarray of float64, shape (n, 481)

    Examples
    --------
    >>> patches = np.random.default_rng(0).normal(-880, 40, (2, 31, 31))
    >>> turned = np.rot90(patches, axes=(1, 2))
    >>> signature = texture_signature(patches)
    >>> signature.shape, bool(np.allclose(signature, texture_signature(turned), atol=1e-5))
    ((2, 481), True)
    """
    from scipy import ndimage

    image = np.asarray(hu, np.float64)
    parts = []
    for sigma in SMOOTHING_PX:
        around = (0, sigma, sigma)
        smooth = ndimage.gaussian_filter(image, around) if sigma else image
        wider = 1.6 * max(sigma, 0.6)
        parts.append(root_histogram(smooth, *HU_RANGE, 40))
        parts.append(root_histogram(smooth - ndimage.gaussian_filter(image, (0, wider, wider)), -150, 150, 24))
        if not sigma:
            continue

        def derivative(y: int, x: int, around: tuple[float, float, float] = around) -> np.ndarray:
            return ndimage.gaussian_filter(image, around, order=(0, y, x))  # type: ignore[arg-type]

        parts.append(root_histogram(np.log1p(np.hypot(derivative(1, 0), derivative(0, 1))), 0, 6, 24))
        mean = (derivative(2, 0) + derivative(0, 2)) / 2
        spread = np.hypot((derivative(2, 0) - derivative(0, 2)) / 2, derivative(1, 1))
        parts += [root_histogram(np.arcsinh((mean + sign * spread) * sigma / 10), -4, 4, 24) for sign in (1, -1)]
    areas = np.zeros((len(image), len(LOW_ATTENUATION_HU), 3))
    for number, patch in enumerate(image):
        for level, threshold in enumerate(LOW_ATTENUATION_HU):
            labels, count = ndimage.label(patch < threshold)  # type: ignore[misc]
            sizes = np.bincount(labels.ravel())[1:] if count else np.zeros(1)
            areas[number, level] = np.log1p([count, sizes.max(), sizes.mean()]) / 6
    return np.concatenate([*parts, areas.reshape(len(image), -1)], axis=1)

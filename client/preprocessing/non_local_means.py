"""Non-local means in the plane."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from skimage.restoration import denoise_nl_means

from client.cases.prepared import Prepared
from client.preprocessing.planes import each_slice


def non_local_means(
    prepared: Prepared,
    *,
    noise_hu: Annotated[float, Field(gt=0, le=300)] = 25.0,
    strength: Annotated[float, Field(gt=0, le=5)] = 0.8,
    patch_radius: Annotated[int, Field(ge=1, le=5)] = 2,
    search_radius: Annotated[int, Field(ge=1, le=15)] = 5,
) -> Prepared:
    """Return every slice averaged over pixels whose surroundings look alike (scikit-image's `denoise_nl_means`); still Hounsfield units.

    Parameters
    ----------
    prepared : Prepared
        Image, shape (z, y, x).
    noise_hu : float
        Standard deviation of the noise.
    strength : float
        Width of the weights as a multiple of the noise.
    patch_radius, search_radius : int
        Half the edge of a patch, and of the window in which patches are compared, pixels.

    References
    ----------
    Buades, Coll & Morel, Non-local means denoising, Image Processing On Line 2011; all patches of one offset in one pass: Darbon et al.,
    ISBI 2008.

    Examples
    --------
    >>> import numpy as np
    >>> from client.cases.volume import Volume
    >>> noisy = np.random.default_rng(0).normal(0, 20, (1, 48, 48)).astype(np.float32)
    >>> bool(non_local_means(Prepared(Volume(noisy, (1, 1, 1))), noise_hu=20).volume.hu.std() < 10)
    True
    """
    knobs = {"patch_size": 2 * patch_radius + 1, "patch_distance": search_radius, "h": strength * noise_hu, "sigma": noise_hu}
    return each_slice(prepared, lambda plane: denoise_nl_means(plane, fast_mode=True, preserve_range=True, **knobs), is_hu=True)

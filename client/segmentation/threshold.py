"""Lung mask by threshold: air inside the body, its large components, without the windpipe, right and left told apart."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from client.cases.volume import Volume
from client.segmentation.components import close_gaps
from client.segmentation.lungs import find, onto
from client.segmentation.sides import part
from shared_models.core.arrays import Mask


def threshold(
    volume: Volume,
    *,
    below_hu: Annotated[float, Field(ge=-800, le=-200)] = -400.0,
    close_mm: Annotated[float, Field(ge=0, le=30)] = 2.6,
    smallest_share: Annotated[float, Field(gt=0, lt=1)] = 0.1,
) -> Mask:
    """Return the lung mask of a chest CT: 0 elsewhere, 1 right lung, 2 left lung.

    1. Air is what lies below `below_hu`. 2. In every slice, air that reaches the border is outside the body. 3. Of what remains, the largest
    connected component (both lungs, joined by the airways) is kept, and a second one when it has at least `smallest_share` of the first.
    4. The windpipe and main bronchi are followed from the top and dropped. 5. Gaps up to `close_mm` wide are closed inside each slice, which
    takes in small vessels and thin dense disease. 6. The two sides are parted where the mask is thinnest.

    Parameters
    ----------
    volume : Volume
        Hounsfield units, shape (z, y, x), in the patient's frame (x grows to the patient's left).
    below_hu : float
        Air and lung lie below it, body above.
    close_mm : float
        Width of the gaps to close, millimetres; gaps below two voxels stay. Wider closing brings back more of a consolidated lung, and more
        vessels: the mean density rises by about 4 HU per millimetre.
    smallest_share : float
        Smallest second component, as a share of the first.

    Returns
    -------
    ndarray of uint8, shape (z, y, x)

    Raises
    ------
    BadStudy
        ``NO_LUNG``: less than 200 mL of air inside the body.
    """
    lungs = find(volume, below_hu, smallest_share=smallest_share)
    closed = close_gaps(lungs.air, close_mm, lungs.spacing_mm) & ~lungs.airway
    return onto(volume, lungs, lungs.air, part(closed, lungs.spacing_mm, lungs.middle), below_hu)

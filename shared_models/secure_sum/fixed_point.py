"""Numbers as whole numbers that may be summed under masks: modulo 2^32 for changes of weights, two words modulo 2^64 for exact sums.

Rounding is to the nearest whole number, half to even. A mask is uniform over all words, so sums wrap around; what comes out is right because
the true sum never leaves the signed range, which is shown for each kind below.
"""

from __future__ import annotations

import math

import numpy as np

from shared_models.core.errors import BadState


def change_bits(sites: int, largest: float) -> int:
    """Return f, the binary places of a change: ``q = rint(2^f x)`` for ``|x| <= largest``.

    f is the largest number with ``sites (2^f largest + 1/2) <= 2^31 - 1``. Every ``|q_i| <= 2^f largest + 1/2``, so the sum over the sites is
    within ``+- (2^31 - 1)`` whatever the values are, and is read back from its residue modulo 2^32 without doubt.

    Examples
    --------
    >>> change_bits(4, 4.0), change_bits(5, 4.0), change_bits(3, 1.0)
    (26, 26, 29)
    """
    bits = math.floor(math.log2((2**31 - 1) / (sites * largest)))
    while sites * (math.ldexp(largest, bits) + 0.5) > 2**31 - 1:
        bits -= 1
    return bits


def encode_change(values: np.ndarray, *, sites: int, largest: float) -> np.ndarray:
    """Return uint32 words for the values of one site.

    Raises
    ------
    BadState
        A value beyond `largest`: it could spoil the whole sum.

    Examples
    --------
    >>> words = [encode_change(np.array([x]), sites=3, largest=1.0) for x in (-1.0, 0.25, -1.0)]
    >>> decode_change(sum(words), sites=3, largest=1.0)
    array([-1.75])
    """
    top = float(np.max(np.abs(values), initial=0.0))
    if not top <= largest:
        raise BadState("a change under the secure sum stays within federation.secure_sum.largest_change", value=top, remedy="raise it")
    scaled = np.ldexp(values.astype(np.float64), change_bits(sites, largest))
    return np.rint(scaled, out=scaled).astype(np.int32).view(np.uint32)


def decode_change(total: np.ndarray, *, sites: int, largest: float) -> np.ndarray:
    """Return the sum that uint32 words stand for, in float64."""
    return np.ldexp(total.view(np.int32).astype(np.float64), -change_bits(sites, largest))


def rest_bits(sites: int) -> int:
    """Return the binary places of the second word of an exact number: ``sites * 2^(f - 1) <= 2^61``.

    Examples
    --------
    >>> rest_bits(3), rest_bits(5)
    (60, 59)
    """
    return 62 - math.ceil(math.log2(sites))


def encode_exact(values: np.ndarray, *, sites: int) -> np.ndarray:
    """Return uint64 words of shape (2, ...): the nearest whole number, and the rest of it with `rest_bits` binary places.

    Whole numbers, and all others that have no bit below ``2^-rest_bits``, are kept to the last bit, so that sums of counts are exact.

    The whole part is at most ``2^62 / sites`` and the rest at most 1/2, so both sums stay within ``+- 2^62``.

    Raises
    ------
    BadState
        A value that is not finite or larger than ``2^62 / sites``.

    Examples
    --------
    >>> words = [encode_exact(np.array([x]), sites=3) for x in (1e12, 0.1, -7.0)]
    >>> decode_exact(sum(words), sites=3)
    array([1.e+12])
    >>> float(decode_exact(sum(words), sites=3)[0]) == 1e12 + 0.1 - 7
    True
    """
    exact = np.asarray(values).astype(np.float64)
    top = float(np.max(np.abs(exact), initial=0.0))
    if not top <= 2.0**62 / sites:
        raise BadState("an exact number under the secure sum is finite and below 2^62 over the number of sites", value=top)
    whole = np.rint(exact)
    rest = np.rint(np.ldexp(exact - whole, rest_bits(sites)))
    return np.stack([whole.astype(np.int64), rest.astype(np.int64)]).view(np.uint64)


def decode_exact(total: np.ndarray, *, sites: int) -> np.ndarray:
    """Return the sum that uint64 words of shape (2, ...) stand for, in float64."""
    whole, rest = total.view(np.int64)
    return whole.astype(np.float64) + np.ldexp(rest.astype(np.float64), -rest_bits(sites))

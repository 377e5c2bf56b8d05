"""Plain numpy definitions that the package is compared with; they share nothing with it."""

import numpy as np


def fp8_values(exponent_bits, mantissa_bits, bias, nan_codes):
    """The 256 values of an 8-bit float, from sign, exponent and mantissa."""
    values = np.empty(256, np.float64)
    for code in range(256):
        exponent = (code >> mantissa_bits) & ((1 << exponent_bits) - 1)
        mantissa = code & ((1 << mantissa_bits) - 1)
        if exponent == 0:
            value = mantissa * 2.0 ** (1 - bias - mantissa_bits)
        else:
            value = (2**mantissa_bits + mantissa) * 2.0 ** (exponent - bias - mantissa_bits)
        values[code] = -value if code & 0x80 else value
    for code, value in nan_codes.items():
        values[code] = value
    return values.astype(np.float32)


E4M3 = fp8_values(4, 3, 7, {0x7F: np.nan, 0xFF: np.nan})
E5M2 = fp8_values(
    5,
    2,
    15,
    {0x7C: np.inf, 0xFC: -np.inf, **{c | s: np.nan for c in (0x7D, 0x7E, 0x7F) for s in (0, 0x80)}},
)
E4M3_MAX = np.float32(448.0)


def encode_e4m3(x):
    """The nearest code, of two the even one; beyond the largest, the largest. NaN gives NaN."""
    positive = E4M3[:0x7F].astype(np.float64)  # ascending, as their codes
    magnitude = np.minimum(np.abs(x.astype(np.float64)), positive[-1])
    above = np.searchsorted(positive, np.nan_to_num(magnitude)).clip(1, 0x7E)
    below = above - 1
    middle = (positive[above] + positive[below]) / 2
    up = (magnitude > middle) | ((magnitude == middle) & (above % 2 == 0))
    codes = np.where(up, above, below)
    codes = np.where(np.isnan(x), 0x7F, codes)
    return (codes | np.where(np.signbit(x), 0x80, 0)).astype(np.uint8)


def act_quant(x, group):
    """Codes and scales: the scale is the largest magnitude / 448, both divisions in float32."""
    groups = x.astype(np.float32).reshape(-1, group)
    scale = np.abs(groups).max(axis=1) / E4M3_MAX
    scale = np.where(scale == 0, np.float32(1), scale).astype(np.float32)
    codes = encode_e4m3(groups / scale[:, None])
    return codes.reshape(x.shape), scale.reshape(x.shape[:-1] + (x.shape[-1] // group,))


def spread(scales, block_rows, block_cols, rows, cols):
    """One scale for each element."""
    wide = np.repeat(np.repeat(scales, block_rows, axis=0), block_cols, axis=1)
    return wide[:rows, :cols]


def same_bits(a, b):
    """Whether two float arrays are equal to the bit, NaNs compared by class."""
    a, b = np.asarray(a), np.asarray(b)
    bits = np.dtype(f"u{a.dtype.itemsize}")
    both_nan = np.isnan(a) & np.isnan(b)
    return a.dtype == b.dtype and a.shape == b.shape and bool(
        np.all(both_nan | (a.view(bits) == b.view(bits)))
    )

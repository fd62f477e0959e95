"""Inner products of all samples' gradients at one layer: rows times rows, or by pairs of positions.

With g_i = sum_t d_it a_itᵀ the product of two samples is sum_tu (d_it . d_ju)(a_it . a_ju), which
needs no gradient at all: for few positions that is far cheaper than the gradients' own product.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from expunge.per_sample.layers import Layer, left_factor, right_factor

BLOCK = 256
"""Samples whose products with all later ones are one matrix product; the rest is the mirror image."""
PAIRS = 2**22
"""Products of positions made at a time."""
FLOPS_PER_NUMBER = 50
"""Multiplications and additions of a matrix product that take as long as moving one number that
is summed outside of one."""


@dataclass(frozen=True)
class Cost:
    """Operations for one pair of samples, by each way, and whether patches' products are shifted."""

    rows: int
    pairs: int
    shifted: bool


def cost(layer: Layer, fan_in: int, positions: int, inputs: int, output: int) -> Cost:
    """What a pair of samples costs at a factored layer, by its sizes alone.

    inputs, output: numbers in one sample's input and output.
    """
    module, squared = layer.module, positions**2
    fan_out = output // max(1, positions)
    plain = 2 * fan_in * squared
    shifted = plain + 1
    if isinstance(module, nn.Conv2d) and can_shift(module):
        window, channels = math.prod(module.kernel_size), module.in_channels
        pixels = inputs // channels
        shifted = 2 * channels * pixels**2 + FLOPS_PER_NUMBER * (window * squared + pixels**2)
    rest = (2 * fan_out + FLOPS_PER_NUMBER) * squared
    return Cost(2 * fan_in * fan_out, rest + min(plain, shifted), shifted < plain)


def can_shift(module: nn.Conv2d) -> bool:
    """Whether patches' products are sums of shifted pixels' products: zeros around, if anything."""
    return module.padding_mode == "zeros" and not isinstance(module.padding, str)


def add_rows(K: Tensor, rows: Tensor) -> None:
    """Add rows rowsᵀ to the upper triangle of K (n, n); what lies below it is undefined."""
    for start in range(0, len(rows), BLOCK):
        stop = min(start + BLOCK, len(rows))
        product = rows[start:stop] @ rows[start:].t()
        K[start:stop, start:] += product


def add_pairs(K: Tensor, layer: Layer, inputs: Tensor, delta: Tensor, *, shifted: bool) -> None:
    """Add the inner products of a factored layer's gradients to the upper triangle of K (n, n).

    inputs: (n, ...). delta: gradient of the output (n, ...).
    """
    module = layer.module
    d = right_factor(module, [delta])[:, 0].transpose(1, 2).contiguous()  # (n, positions, fan-out)
    count, positions = d.shape[:2]
    a = pixels(inputs) if shifted else left_factor(module, inputs).transpose(1, 2).contiguous()
    side = max(1, math.isqrt(PAIRS // max(positions, a.shape[1]) ** 2))
    for row in range(0, count, side):
        for column in range(row, count, side):
            mine, others = slice(row, row + side), slice(column, column + side)
            both = inner(d[mine], d[others])
            if "weight" in layer.own:
                left = inner(a[mine], a[others])
                if shifted:
                    left = shifted_sums(module, left, inputs.shape[2:])
                if "bias" in layer.own:
                    left += 1  # the input of a bias is 1 at every position
                both *= left
            K[mine, others] += both.sum((1, 3), dtype=K.dtype)


def inner(one: Tensor, other: Tensor) -> Tensor:
    """Inner products (i, t, width), (j, u, width) -> (i, t, j, u)."""
    product = one.flatten(0, 1) @ other.flatten(0, 1).t()
    return product.view(*one.shape[:2], *other.shape[:2])


def pixels(inputs: Tensor) -> Tensor:
    """Images (n, channels, h, w) as (n, pixels, channels)."""
    return inputs.flatten(2).transpose(1, 2).contiguous()


def shifted_sums(module: nn.Module, products: Tensor, sides: Sequence[int]) -> Tensor:
    """Products of patches from products of pixels, (i, pixels, j, pixels) -> (i, t, j, u).

    Pixels of two patches meet at the same place of the kernel, so each place adds the products of
    pixels shifted by it, and outside of the image there are zeros. sides: height and width.
    """
    if not isinstance(module, nn.Conv2d) or isinstance(module.padding, str):
        raise TypeError(f"{type(module).__name__} has no patches that shift")
    (up, left), (kh, kw) = module.padding, module.kernel_size
    (sh, sw), (dh, dw) = module.stride, module.dilation
    i, _, j, _ = products.shape
    height, width = sides
    around = (left, left, up, up)
    wide = functional.pad(
        products.view(i, height, width, j, height, width), (*around, 0, 0, *around)
    )
    tall, broad = wide.shape[1:3]
    down, across = (tall - (kh - 1) * dh - 1) // sh + 1, (broad - (kw - 1) * dw - 1) // sw + 1
    total = None
    for y in range(kh):
        for x in range(kw):
            rows = slice(y * dh, y * dh + (down - 1) * sh + 1, sh)
            columns = slice(x * dw, x * dw + (across - 1) * sw + 1, sw)
            part = wide[:, rows, columns, :, rows, columns]
            total = part.clone() if total is None else total.add_(part)
    if total is None:
        raise TypeError("a convolution without a kernel")
    return total.reshape(i, down * across, j, down * across)

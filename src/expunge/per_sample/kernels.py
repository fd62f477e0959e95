"""Inner products of all samples' gradients at one layer, by pairs of positions.

With g_i = sum_t d_it a_itᵀ the product of two samples is sum_tu (d_it . d_ju)(a_it . a_ju), which
needs no gradient at all: for few positions that is far cheaper than the gradients' own product.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from expunge.per_sample.chunks import PIECE
from expunge.per_sample.layers import Layer, as_matrix, left_factor, right_factor

PAIRS = 2**22
"""Products of positions made at a time."""
FLOPS_PER_NUMBER = 50
"""Multiplications and additions of a matrix product that take as long as moving one number that
is summed outside of one."""


def pairs_are_cheaper(fan_in: int, fan_out: int, positions: int) -> bool:
    """Whether a pair of samples costs less by pairs of positions than by rows of gradients."""
    pairs = (2 * fan_in + 2 * fan_out + FLOPS_PER_NUMBER) * positions**2
    return pairs < 2 * fan_in * fan_out


def add_pairs(K: Tensor, layer: Layer, inputs: Tensor, delta: Tensor) -> None:
    """Add the inner products of a factored layer's gradients to the upper triangle of K (n, n).

    What lies below it is undefined. inputs: (n, ...). delta: gradient of the output (n, ...).
    """
    d = right_factor(layer.module, [delta])[:, 0].transpose(1, 2).contiguous()  # (n, t, fan-out)
    count, positions = d.shape[:2]
    side = max(1, math.isqrt(PAIRS) // positions)
    for row in range(0, count, side):
        mine = slice(row, row + side)
        a = positions_first(layer, inputs[mine])
        for column in range(row, count, side):
            others = slice(column, column + side)
            both = inner(d[mine], d[others])
            if "weight" in layer.own:
                left = inner(a, a if row == column else positions_first(layer, inputs[others]))
                if "bias" in layer.own:
                    left += 1  # the input of a bias is 1 at every position
                both *= left
            products = both.sum((1, 3), dtype=K.dtype)
            if row == column:
                # a gradient with itself: a sum of squares, which rounding may take below 0
                products.diagonal().clamp_(min=0)
            K[mine, others] += products


def products_along(
    total: Tensor, layer: Layer, inputs: Tensor, delta: Tensor, vector: Mapping[str, Tensor]
) -> None:
    """Add the inner products (n,) of a factored layer's gradients with a vector, without gradients.

    g_i . V = sum_t d_it . V a_it. vector: model's name of the parameter -> its shape.
    """
    for at in range(0, len(total), PIECE):
        some = slice(at, at + PIECE)
        d = right_factor(layer.module, [delta[some]])[:, 0]  # (n, fan-out, t)
        if "weight" in layer.own:
            V = as_matrix(vector[layer.own["weight"]]).to(d.dtype)
            total[some] += (d * (V @ left_factor(layer.module, inputs[some]))).sum((1, 2))
        if "bias" in layer.own:
            total[some] += d.sum(2) @ vector[layer.own["bias"]].to(d.dtype)


def positions_first(layer: Layer, inputs: Tensor) -> Tensor:
    """What the weight multiplied, (n, positions, fan-in)."""
    return left_factor(layer.module, inputs).transpose(1, 2).contiguous()


def inner(one: Tensor, other: Tensor) -> Tensor:
    """Inner products (i, t, width), (j, u, width) -> (i, t, j, u)."""
    product = one.flatten(0, 1) @ other.flatten(0, 1).t()
    return product.view(*one.shape[:2], *other.shape[:2])

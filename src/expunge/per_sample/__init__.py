"""Per-sample gradients without a loop over samples, and what is made of them.

`fisher_diagonal` and `gram_matrix` never hold the gradients of all samples; `gradient_products`
and `weighted_gradient` are the products of that matrix with a vector from the right and the left.
`per_sample_gradients` is the plain engine that the others are tested against.
"""

from __future__ import annotations

from expunge.per_sample.fisher import fisher_diagonal
from expunge.per_sample.gram import gram_matrix
from expunge.per_sample.plain import per_sample_gradients
from expunge.per_sample.products import gradient_products, weighted_gradient

__all__ = [
    "fisher_diagonal",
    "gradient_products",
    "gram_matrix",
    "per_sample_gradients",
    "weighted_gradient",
]

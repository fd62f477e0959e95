"""What theory says, checked: proposition 2 of the sparsity paper."""

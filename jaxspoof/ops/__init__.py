"""Numerical kernels with contracts of their own, fast where JAX is not yet."""

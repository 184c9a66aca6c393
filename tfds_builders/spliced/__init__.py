"""Bona fide clips of a built corpus with spoofed stretches in them."""

"""Weights of other toolkits, read without those toolkits."""

"""Comparing strategies on one ground: what is compared, where, and what came of it."""

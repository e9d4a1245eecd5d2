"""Evaluation that cannot mislead: what a class, a subgroup, a scanner and a ranking of models may say, and when they say nothing."""

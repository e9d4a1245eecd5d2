"""Survival without models: life tables that sites can sum, curves from them, what is known at a horizon, hazards over intervals."""

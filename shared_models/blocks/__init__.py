"""Pieces that models are built from: the spec of a model, layers, losses per sample."""

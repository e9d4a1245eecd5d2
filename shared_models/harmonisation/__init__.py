"""Statistics that make scans of different sites comparable, learnt from sums over sites alone: histogram landmarks, and ComBat on features."""

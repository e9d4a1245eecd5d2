"""Phantom hospitals, simulated federations and the one command `fedild`."""

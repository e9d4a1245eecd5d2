"""Measurements: `make bench` and `make demo-seeds`. Not installed, and no test asserts a time.

Every figure is a ratio of runs taken in turns on the same machine, with its spread; a bench prints its command line and the number of cores.
"""

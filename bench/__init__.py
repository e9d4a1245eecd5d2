"""Measurements: `make bench` and `make demo-seeds`. Not installed, and no test asserts a time.

Every figure is a ratio of runs taken in turns on the same machine, with its spread; a bench prints its command line and the number of cores.
"""

import os

# Read when numpy is first imported, which is after this: what is measured in a bench's own process runs on one thread.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

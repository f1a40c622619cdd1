"""The job around the stages: configuration, memo, runners, tables, report, command line."""

from __future__ import annotations

import os

# Numerical libraries sum in another order with another number of threads, and results must not depend
# on the machine or on the runner. They read these once, when they are first imported.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
for _name in THREAD_VARIABLES:
    os.environ.setdefault(_name, "1")

__version__ = "0.1.0"

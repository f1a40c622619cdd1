"""The job around the stages: configuration, memo, runners, tables, report, command line."""

from __future__ import annotations

import os
import secrets

# Numerical libraries sum in another order with another number of threads, and results must not depend
# on the machine or on the runner. They read these once, when they are first imported.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
for _name in THREAD_VARIABLES:
    os.environ.setdefault(_name, "1")

# Libraries that report to their makers or look up a hub. onnxruntime's own switch comes too late: it reads
# this variable when it is imported.
for _name, _value in {
    "ORT_DISABLE_TELEMETRY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_NO_USAGE_STATS": "1",
}.items():
    os.environ.setdefault(_name, _value)
# A cluster of our own answers only to processes with its token. Ray reads this when it is imported.
if not {"RAY_ADDRESS", "RAY_AUTH_MODE"} & os.environ.keys():
    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
PASSED_VARIABLES = (
    *THREAD_VARIABLES,
    "ORT_DISABLE_TELEMETRY",
    "HF_HUB_DISABLE_TELEMETRY",
    "HF_HUB_OFFLINE",
    "DISABLE_TELEMETRY",
    "DO_NOT_TRACK",
    "VLLM_NO_USAGE_STATS",
)
"""Variables that workers get as the driver has them."""

__version__ = "0.1.0"

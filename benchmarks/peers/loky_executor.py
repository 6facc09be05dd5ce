#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""loky_executor.py MODE: the executor of joblib's loky. See serving.py."""
import serving

try:
    from joblib.externals.loky import ProcessPoolExecutor
except ImportError:
    ProcessPoolExecutor = None

if __name__ == "__main__":
    if ProcessPoolExecutor is None:
        print("missing python3-joblib is not installed")
    else:
        serving.serve(serving.executor_rounds(ProcessPoolExecutor))

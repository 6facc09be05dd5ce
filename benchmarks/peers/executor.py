#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""executor.py METHOD MODE: CPython's concurrent.futures.ProcessPoolExecutor. See serving.py."""
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor

import serving


def make(workers):
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context(sys.argv[1]))


if __name__ == "__main__":
    serving.serve(serving.executor_rounds(make))

# SPDX-License-Identifier: MIT
"""The line protocol of benchmarks/peer.hpp, and what the Python peers share."""
import os
import sys
import time


def now():
    return time.perf_counter_ns()


def noop():
    pass


def same(x):
    return x


def timed(count, call):
    """The times of `count` calls, in ns."""
    times = []
    for _ in range(count):
        start = now()
        call()
        times.append(now() - start)
    return times


held = None


def hold(size):
    """Makes this process hold `size` bytes of doubles, as a numpy array if there is numpy."""
    global held
    if held is None or len(held) != size // 8:
        held = doubles(size)


def give(size):
    return held


def take(values):
    return float(values[0]) + float(values[-1])


def doubles(size):
    try:  # here, not above: workers that don't need it must not pay for the import
        import numpy
        return numpy.ones(size // 8)
    except ImportError:
        import array
        return array.array("d", [1.0]) * (size // 8)


def private_kib(seconds):
    """The private memory of this process, which stays busy until the others have started."""
    time.sleep(seconds)
    with open("/proc/self/smaps_rollup") as rollup:
        return sum(int(line.split()[1]) for line in rollup if line.startswith("Private_"))


def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


at_the_end = []


def serve(rounds):
    """`rounds` maps a mode to a function that returns the round: a function from the count to samples."""
    run = rounds[sys.argv[-1]]()
    print("ready", flush=True)
    for line in sys.stdin:
        print(*run(int(line)), flush=True)
    for end in at_the_end:
        end()


def executor_rounds(make):
    """The modes of an executor; `make` makes one from the number of workers."""
    def made(workers):
        executor = make(workers)
        at_the_end.append(executor.shutdown)
        return executor

    def call():
        executor = made(1)
        return lambda count: timed(count, lambda: executor.submit(noop).result())

    def outstanding():
        executor = made(2)

        def run(count):
            start = now()
            futures = [executor.submit(noop) for _ in range(count)]
            for future in futures:
                future.result()
            return [now() - start]

        return run

    def map_items():
        executor = made(2)

        def run(count):
            items = list(range(count))
            start = now()
            list(executor.map(same, items, chunksize=max(1, count // 8)))  # that of Pool.map
            return [now() - start]

        return run

    return {"call": call, "outstanding": outstanding, "map": map_items}

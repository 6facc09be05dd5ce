#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""multiprocessing_pool.py METHOD MODE: CPython's multiprocessing.Pool and Process. See serving.py."""
import multiprocessing
import sys

import serving
from serving import now, timed


def make(workers, **options):
    pool = context.Pool(workers, **options)
    serving.at_the_end.append(pool.terminate)
    return pool


def call():
    pool = make(1)
    return lambda count: timed(count, lambda: pool.apply(serving.noop))


def outstanding(**options):
    pool = make(2, **options)

    def run(count):
        start = now()
        results = [pool.apply_async(serving.noop) for _ in range(count)]
        for result in results:
            result.get()
        return [now() - start]

    return run


def one_task_each():
    return outstanding(maxtasksperchild=1)


def map_items():
    pool = make(2)

    def run(count):
        items = list(range(count))
        start = now()
        pool.map(serving.same, items)
        return [now() - start]

    return run


def answer(connection):
    connection.send_bytes(b"1")


def start_process():
    def run(count):
        times = []
        for _ in range(count):
            start = now()
            ours, theirs = context.Pipe(False)
            process = context.Process(target=answer, args=(theirs,))
            process.start()
            ours.recv_bytes()
            times.append(now() - start)
            process.join()
            ours.close()
            theirs.close()
        return times

    return run


def result():
    pool = make(1)

    def run(size):
        pool.apply(serving.hold, (size,))
        return timed(1, lambda: pool.apply(serving.give, (size,)))

    return run


def argument():
    pool = make(1)

    def run(size):
        values = serving.doubles(size)
        return timed(1, lambda: pool.apply(serving.take, (values,)))

    return run


def idle_memory():
    pool = make(8)
    return lambda count: pool.map(serving.private_kib, [0.1] * 8, 1)


def queued_memory():
    def run(count):
        pool = context.Pool(2)
        hold = [pool.apply_async(serving.private_kib, (3600,)) for _ in range(2)]
        before = serving.resident()
        results = [pool.apply_async(serving.noop) for _ in range(count)]
        grown = serving.resident() - before
        pool.terminate()
        return [grown / count]

    return run


if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    serving.serve({
        "call": call, "outstanding": outstanding, "map": map_items, "start": start_process, "one_task_each": one_task_each,
        "result": result, "argument": argument, "idle_memory": idle_memory, "queued_memory": queued_memory,
    })

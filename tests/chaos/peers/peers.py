#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The kills of brood_chaos, done to other process pools: one peer, one run, one JSON object on stdout.

Usage: peers.py PEER [--tasks N] [--workers N] [--kill-ms N] [--bound SECONDS] [--seed N]

PEER: multiprocessing, concurrent.futures, pebble, billiard. Ends with 77 when that module is not installed. After the
bound, what has no answer counts as unresolved, and everything is killed.
"""
import argparse
import importlib
import json
import os
import random
import signal
import sys
import threading
import time


def work(task):
    """Up to 300 us of computing, as in tests/chaos/kills.cpp."""
    until = time.monotonic() + task * 7919 % 300 / 1e6
    while time.monotonic() < until:
        pass
    return task * 31 + 7


class Multiprocessing:
    """CPython's multiprocessing.Pool."""

    module = "multiprocessing"

    def start(self, workers):
        self.pool = importlib.import_module(self.module).Pool(workers)

    def pids(self):
        return [each.pid for each in list(self.pool._pool)]

    def submit(self, task, done):
        self.pool.apply_async(work, (task,), callback=lambda value: done(task, value, None),
                              error_callback=lambda error: done(task, None, error))


class Billiard(Multiprocessing):
    """Celery's fork of it."""

    module = "billiard"


class ConcurrentFutures:
    """CPython's ProcessPoolExecutor."""

    module = "concurrent.futures"

    def start(self, workers):
        self.pool = importlib.import_module(self.module).ProcessPoolExecutor(workers)

    def pids(self):
        return list((self.pool._processes or {}).keys())

    def submit(self, task, done):
        def resolved(future):
            error = future.exception()
            done(task, None if error else future.result(), error)
        self.pool.submit(work, task).add_done_callback(resolved)


class Pebble(ConcurrentFutures):
    """pebble.ProcessPool."""

    module = "pebble"

    def start(self, workers):
        self.pool = importlib.import_module(self.module).ProcessPool(max_workers=workers)

    def pids(self):
        return list(self.pool._pool_manager.worker_manager.workers.keys())

    def submit(self, task, done):
        def resolved(future):
            error = future.exception()
            done(task, None if error else future.result(), error)
        self.pool.schedule(work, args=(task,)).add_done_callback(resolved)


PEERS = {"multiprocessing": Multiprocessing, "billiard": Billiard, "concurrent.futures": ConcurrentFutures, "pebble": Pebble}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("--tasks", type=int, default=5000)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--kill-ms", type=float, default=50)
    parser.add_argument("--bound", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    peer = PEERS[options.peer]()
    try:
        importlib.import_module(peer.module)
    except ImportError:
        print(f"{options.peer}: not installed", file=sys.stderr)
        sys.exit(77)

    started = time.monotonic()
    until = started + options.bound
    lock = threading.Lock()
    heard = {}
    counts = {"values": 0, "wrong": 0, "failed": 0, "twice": 0, "refused": 0, "kills": 0}
    causes = {}
    finished = threading.Event()

    def done(task, value, error):
        with lock:
            heard[task] = heard.get(task, 0) + 1
            if heard[task] > 1:
                counts["twice"] += 1
                return
            if error is not None:
                counts["failed"] += 1
                causes[type(error).__name__] = causes.get(type(error).__name__, 0) + 1
            else:
                counts["values"] += 1
                counts["wrong"] += value != task * 31 + 7
            if len(heard) == options.tasks:
                finished.set()

    def kill_workers():
        chance = random.Random(options.seed)
        while not finished.wait(options.kill_ms / 1000):
            try:
                pids = [pid for pid in peer.pids() if pid]
                if pids:
                    os.kill(chance.choice(pids), signal.SIGKILL)
                    counts["kills"] += 1
            except (OSError, RuntimeError, AttributeError):
                pass  # it has just ended, or the pool has taken itself apart

    def report():
        counts.update(peer=options.peer, tasks=options.tasks, workers=options.workers, kill_ms=options.kill_ms,
                      unresolved=options.tasks - len(heard), seconds=round(time.monotonic() - started, 1), causes=causes)
        print(json.dumps(counts), flush=True)
        os.killpg(0, signal.SIGKILL)  # its own end would wait for what never comes

    def give_up():
        """The caller itself may hang in submit."""
        finished.wait(max(0, until - time.monotonic()))
        time.sleep(0.2)  # a second answer would come now
        with lock:
            report()

    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)
    peer.start(options.workers)
    threading.Thread(target=kill_workers, daemon=True).start()
    threading.Thread(target=give_up, daemon=True).start()
    for task in range(options.tasks):
        try:
            peer.submit(task, done)
        except Exception as error:  # a pool that calls itself broken takes no more
            counts["refused"] += 1
            done(task, None, error)
    while True:
        time.sleep(1)


if __name__ == "__main__":
    main()

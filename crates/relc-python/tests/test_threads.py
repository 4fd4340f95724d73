"""Threads share an explainer, and the interpreter goes on while it computes."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np


def test_eight_threads_give_the_same_to_the_bit(explainer, x):
    expected = explainer(x)
    start = threading.Barrier(8)

    def run(_):
        start.wait()
        return [explainer(x) for _ in range(4)]

    with ThreadPoolExecutor(8) as pool:
        for explanations in pool.map(run, range(8)):
            for explanation in explanations:
                np.testing.assert_array_equal(explanation.relevance, expected.relevance)
                np.testing.assert_array_equal(explanation.logits, expected.logits)
                assert explanation.ledger == expected.ledger


def test_the_lock_is_released(explainer, x):
    batch = np.concatenate([x] * 32)
    done = threading.Event()

    def work():
        explainer(batch)
        done.set()

    thread = threading.Thread(target=work)
    start = time.perf_counter()
    thread.start()
    turns = 0
    while not done.is_set():
        time.sleep(0.001)
        turns += 1
    took = time.perf_counter() - start
    thread.join()
    # With the lock held there would be a turn or two, however long it takes.
    assert turns > 5, f"{turns} turns in {took:.3f} s"

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

from goggles.clock import SHIFT, ManualClock, SystemClock


def test_manual_time_moves_only_when_it_is_told_to():
    clock = ManualClock(100.0)
    assert (clock.now(), clock.monotonic()) == (100.0, 100.0)
    clock.advance(2.5)
    assert (clock.now(), clock.monotonic()) == (102.5, 102.5)


def test_waiting_on_a_manual_clock_ends_when_its_time_has_come():
    clock, never, answers = ManualClock(), threading.Event(), []
    waiter = threading.Thread(target=lambda: answers.append(clock.wait(never, 3600.0)))
    waiter.start()
    while waiter.is_alive():
        clock.advance(1800.0)
        waiter.join(0.001)
    assert answers == [False]


def test_waiting_ends_at_once_when_the_event_is_set():
    event = threading.Event()
    event.set()
    for clock in (ManualClock(), SystemClock()):
        assert clock.wait(event, 3600.0) is True


def test_waiting_for_no_time_does_not_wait():
    for clock in (ManualClock(), SystemClock()):
        assert clock.wait(threading.Event(), 0.0) is False


def test_the_system_clock_is_the_machines():
    before = time.time(), time.monotonic()
    clock = SystemClock()
    read = clock.now(), clock.monotonic()
    after = time.time(), time.monotonic()
    assert before[0] <= read[0] <= after[0] and before[1] <= read[1] <= after[1]


def test_the_environment_sets_the_time_of_day_of_a_process_apart_and_nothing_else():
    ask = "from goggles.clock import SystemClock as C; print(C().now(), C().monotonic())"
    environment = {**os.environ, SHIFT: "-5000"}
    before = time.time(), time.monotonic()
    ran = subprocess.run([sys.executable, "-c", ask], env=environment, capture_output=True, text=True, check=True)
    now, monotonic = map(float, ran.stdout.split())
    assert before[0] <= now + 5000 <= time.time()
    assert before[1] <= monotonic <= time.monotonic()

"""Engines that misbehave on purpose, imported by a real engine process."""

import os
import signal
import threading
import time

import numpy as np

from core.errors import BadInput
from core.events import AttentionCaptured, QualityProgress, TextDelta

ROUNDS = 2000


class Engine:
    """The prompt says what to do."""

    def run(self, request, stop):
        yield TextDelta(request.prompt)
        yield from getattr(self, f"_{request.prompt}")(stop)

    def measure(self, request, stop):
        yield QualityProgress("perplexity", 1, 2, 9.5)
        while not stop():
            time.sleep(0.01)

    def _talk(self, stop):
        for index in range(ROUNDS):
            yield TextDelta(str(index))

    def _capture(self, stop):
        for index in range(60):
            yield AttentionCaptured(index, 0, 0, np.zeros((9, 256, 256), np.float16), np.arange(256, dtype=np.int32))

    def _wait(self, stop):
        while not stop():
            time.sleep(0.01)
            yield TextDelta(".")

    def _hang(self, stop):
        time.sleep(60)
        yield TextDelta("never")

    def _crash(self, stop):
        os.kill(os.getpid(), signal.SIGSEGV)
        yield TextDelta("never")

    def _refuse(self, stop):
        yield TextDelta("so far")
        raise BadInput("weights.bits: 9 is out of range, 2 to 8")

    def _break(self, stop):
        yield TextDelta("so far")
        raise ValueError("an error that\nnobody foresaw")

    def _thread(self, stop):
        thread = threading.Thread(target=lambda: {}["lost"], name="side")
        thread.start()
        thread.join()
        yield TextDelta("goes on")


def compare(engine, requests, repeats, stop):
    for _ in range(repeats):
        for column, request in enumerate(requests):
            for event in engine.run(request, stop):
                yield column, event


class CannotStart:
    def __init__(self):
        raise ImportError("no torch here")

"""How much of the processor is taken."""

import subprocess
import sys
import time

from app.load import Load
from core.environment import cores


def test_that_busy_processes_take_their_share():
    load = Load()
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(cores())]
    try:
        time.sleep(0.5)
        load.measure()
        time.sleep(0.5)
        load.measure()
    finally:
        for process in busy:
            process.kill()
            process.wait()
    assert 0.85 < load.share <= 1

"""The parent's end of a child process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from typing import Any

from core.errors import RunFailed

Answer = dict[str, Any]


class Child:
    """A started worker. Its own session, so that Ctrl+C reaches the parent alone, which then ends it."""

    def __init__(self, engine: str, threads: int) -> None:
        self._complaints = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "core.bench.worker", engine, str(threads)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},  # whatever folder this was started in
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            text=True,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, **request: Any) -> Answer:
        """The answer to one request. Raises RunFailed with what the child says is wrong, or with how it ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            print(json.dumps(request), file=self._process.stdin, flush=True)
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise RunFailed(self._ending())
        answer: Answer = json.loads(line)
        if "error" in answer:
            raise RunFailed(answer["error"])
        return answer

    def _ending(self) -> str:
        self._process.wait()
        self._complaints.seek(0)
        lines = [line.strip() for line in self._complaints if line.strip()]
        return f"its process ended with code {self._process.returncode}" + (f": {lines[-1]}" if lines else "")

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()
        self._process.communicate()
        self._complaints.close()

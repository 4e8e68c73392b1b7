"""A child process of the benchmark: one engine, one line of JSON in for one line of JSON out."""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module
from typing import IO, Any

from core.bench.columns import ENGINES
from core.errors import PlaygroundError


def main(engine: str, threads: int) -> None:
    """Answer until the requests end. engine: a name of ENGINES, or `peaks`."""
    answers = _own_output()
    tasks: Any = None
    for line in sys.stdin:
        try:
            tasks = tasks or _tasks(engine, threads)
            answer = tasks.answer(json.loads(line))
        except Exception as error:  # whatever an engine raises is told to the person
            answer = {"error": _told(error)}
        print(json.dumps(answer), file=answers, flush=True)


def _tasks(engine: str, threads: int) -> Any:
    if engine != "local":
        os.environ.pop("OMP_WAIT_POLICY", None)  # OpenMP as it is by default, not as core sets it for itself
    from core.bench.tasks import Peaks, Tasks

    if engine == "peaks":
        return Peaks(threads)
    module, name = ENGINES[engine].split(":")
    return Tasks(getattr(import_module(module), name))


def _own_output() -> IO[str]:
    """The pipe to the parent; what libraries print goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


def _told(error: Exception) -> str:
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return text if isinstance(error, PlaygroundError) else f"{type(error).__name__}: {text}"


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))

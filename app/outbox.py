"""Sends what the engine says without holding it up: a thread packs and writes, about once a frame."""

from __future__ import annotations

import io
import logging
import os
import pickle
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from queue import SimpleQueue
from threading import Thread

from app.messages import Envelope, Ready

LARGEST_BATCH = 2**20  # bytes after which a batch is closed


class Outbox:
    """A queue and the thread that empties it.

    A batch is pickles one after another with one memo, so that classes and field names are looked up once in it. The first
    batch after a pause goes at once. pause: seconds after a batch in which more gathers, as the window wants it at the time;
    there is none while more waits than a batch holds.
    """

    def __init__(self, connection: Connection, pause: Callable[[], float]) -> None:
        self._connection, self._pause = connection, pause
        self._queue: SimpleQueue[Envelope | Ready] = SimpleQueue()
        Thread(target=self._run, name="outbox", daemon=True).start()

    def put(self, message: Envelope | Ready) -> None:
        self._queue.put(message)

    def _run(self) -> None:
        """A reader that has gone, or a message that cannot be packed, ends the process: nobody would hear of its work."""
        try:
            while True:
                batch = self._batch()
                self._connection.send_bytes(batch)
                if len(batch) < LARGEST_BATCH:
                    time.sleep(self._pause())
        except BrokenPipeError:
            os._exit(0)
        except Exception:
            logging.exception("the outbox broke")
            os._exit(1)

    def _batch(self) -> bytes:
        """Waits for one message, and takes those that wait with it."""
        batch = io.BytesIO()
        pickler = pickle.Pickler(batch, pickle.HIGHEST_PROTOCOL)
        pickler.dump(self._queue.get())
        while batch.tell() < LARGEST_BATCH and not self._queue.empty():
            pickler.dump(self._queue.get())
        return batch.getvalue()

"""Sends what the engine says without holding it up: a thread packs and writes, a few times a frame."""

from __future__ import annotations

import io
import logging
import os
import pickle
import time
from multiprocessing.connection import Connection
from queue import SimpleQueue
from threading import Thread

from app.messages import Envelope, Ready

FLUSH_EVERY = 0.03  # seconds: a frame, and seldom enough to leave the engine its cores
LARGEST_BATCH = 2**20  # bytes after which a batch is closed


class Outbox:
    """A queue and the thread that empties it.

    A batch is pickles one after another with one memo, so that classes and field names are looked up once in it. The first
    batch after a pause goes at once.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._queue: SimpleQueue[Envelope | Ready] = SimpleQueue()
        Thread(target=self._run, name="outbox", daemon=True).start()

    def put(self, message: Envelope | Ready) -> None:
        self._queue.put(message)

    def _run(self) -> None:
        """A reader that has gone, or a message that cannot be packed, ends the process: nobody would hear of its work."""
        try:
            while True:
                self._connection.send_bytes(self._batch())
                time.sleep(FLUSH_EVERY)
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

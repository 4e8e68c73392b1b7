"""The inference core: models in, events out. Usable without a window."""

import os

# Idle OpenMP threads sleep instead of spinning: on a machine that does anything else, spinning ones hold up every product
# (prefill took a third of the time with it under load), and after a Stop they would keep a core busy. Read when torch loads.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

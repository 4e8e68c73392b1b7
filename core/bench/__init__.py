"""Speed of the engines on one model, measured side by side: each in a process of its own, in turns, on the same tokens."""

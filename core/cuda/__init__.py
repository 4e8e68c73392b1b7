"""The decoder on a GPU: a static cache, steps replayed as CUDA graphs, products with packed weights in Triton.

All of it but graphs, events and the stream of copies runs on the processor too, in plain torch, where tests hold it to the
decoder of core/decoder.
Notation as there, and: B sequences of equal length side by side, R = B·T rows of a pass, S slots of the cache.
"""

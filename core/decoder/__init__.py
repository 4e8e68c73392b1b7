"""One lean decoder-only transformer for the Llama-shaped families.

Notation, used in every shape comment: T query tokens, S cached tokens, C model width, H query heads, G KV heads,
D head size, F FFN width, E experts, K active experts, V vocabulary, L layers. One sequence at a time, so no batch axis.
"""

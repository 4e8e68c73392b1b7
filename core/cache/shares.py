"""Budgets that are a number of tokens, or a share of all."""


def of_all(budget: float, whole: int) -> int:
    """`budget` tokens; up to 1 it is a share of `whole`, and one token at least."""
    return max(1, round(budget * whole)) if budget <= 1 else int(budget)

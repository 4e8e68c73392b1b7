"""The grid of Table 4 of Zhou et al. 2024 (arXiv 2404.14294), W4A16 over FP16, filled on a GPU by random models."""

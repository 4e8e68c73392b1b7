"""Head techniques: how many key-value heads the query heads share, and what the cache keeps of them."""

from dataclasses import dataclass

from core.technique import LOSSLESS, Exactness, Technique, layers_option, option


@dataclass(frozen=True)
class KvSharingOptions:
    kv_heads: int = option(1, "KV heads after sharing: the query-head count is MHA, 1 is MQA", low=1, high=1024)
    pool: str = option(
        "mean",
        "how trained KV heads become one; least_squares aligns them first, by what goes into W_q and W_o",
        choices=("mean", "first", "least_squares"),
    )
    repair: bool = option(
        False,
        "take the heads that were trained for the model (`distill kv_sharing`, all layers), whatever pool says; where there "
        "are none, fit W_o anew, layer by layer, to what the pooled heads make of the calibration text",
    )
    layers: str = layers_option()


@dataclass(frozen=True)
class LatentKvOptions:
    rank: int = option(
        192,
        "numbers of the latent that each layer caches for a token, in place of its keys and values (2 · KV heads · head size)",
        low=2,
        high=65_536,
    )
    layers: str = layers_option()


def possible_kv_heads(query_heads: int, trained: int) -> list[int]:
    """KV heads that `query_heads` can share: divisors of them that are multiples or divisors of the `trained` KV heads."""
    return [n for n in range(1, query_heads + 1) if query_heads % n == 0 and (n % trained == 0 or trained % n == 0)]


TECHNIQUES = (
    Technique(
        "heads",
        "as_trained",
        "KV heads as the checkpoint has them.",
        LOSSLESS,
        "Ainslie et al. 2023 (GQA), arXiv 2305.13245",
        "core.heads.as_trained:apply",
    ),
    Technique(
        "heads",
        "kv_sharing",
        "Query heads share fewer KV heads (pooled or trained), or get one each (repeated).",
        Exactness("exact_at", "kv_heads ≥ the model's own"),
        "Shazeer 2019 (MQA), arXiv 1911.02150; Ainslie et al. 2023, arXiv 2305.13245; Jin et al. 2024, arXiv 2412.20677",
        "core.heads.kv_sharing:apply",
        KvSharingOptions,
    ),
    Technique(
        "heads",
        "latent_kv",
        "The cache keeps a latent of a few numbers, from which keys and values are computed again at every step.",
        Exactness("exact_at", "rank = 2 · KV heads · head size"),
        "DeepSeek-AI 2024 (MLA), arXiv 2405.04434; Chang et al. 2024 (Palu), arXiv 2407.21118; Wang et al. 2024 (SVD-LLM), "
        "arXiv 2403.07378",
        "core.heads.latent_kv:apply",
        LatentKvOptions,
    ),
)

"""Head techniques: how many key-value heads the query heads share."""

from dataclasses import dataclass

from core.technique import LOSSLESS, Exactness, Technique, layers_option, option


@dataclass(frozen=True)
class KvSharingOptions:
    kv_heads: int = option(1, "KV heads after sharing: the query-head count is MHA, 1 is MQA", low=1, high=1024)
    pool: str = option("mean", "how trained KV heads become one", choices=("mean", "first"))
    layers: str = layers_option()


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
        "Query heads share fewer KV heads (pooled), or get one each (repeated).",
        Exactness("exact_at", "kv_heads ≥ the model's own"),
        "Shazeer 2019 (MQA), arXiv 1911.02150; Ainslie et al. 2023, arXiv 2305.13245",
        "core.heads.kv_sharing:apply",
        KvSharingOptions,
    ),
)

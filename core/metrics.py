"""Names, units, badges and definitions of every number that a run reports."""

from __future__ import annotations

from dataclasses import dataclass

from core.charts.chart import Badge


@dataclass(frozen=True)
class Metric:
    """One reported number."""

    name: str
    label: str
    unit: str
    badge: Badge
    definition: str


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("ttft_ms", "TTFT", "ms", "measured", "request sent to first token"),
        Metric("tpot_ms", "TPOT", "ms", "derived", "(end-to-end latency − TTFT) / (tokens − 1)"),
        Metric("e2e_ms", "E2EL", "ms", "measured", "request sent to last token"),
        Metric("itl_p50_ms", "ITL median", "ms", "derived", "median gap between streamed chunks"),
        Metric("itl_p99_ms", "ITL 99th", "ms", "derived", "99th percentile of the gaps between streamed chunks"),
        Metric("prefill_tokens_per_s", "prefill", "tok/s", "derived", "prompt tokens computed / prefill time"),
        Metric("decode_tokens_per_s", "decode", "tok/s", "derived", "1000 / TPOT"),
        Metric("acceptance_rate", "acceptance rate", "", "derived", "accepted / drafted tokens"),
        Metric("mean_acceptance_length", "acceptance length", "tokens", "derived", "1 + accepted / rounds"),
        Metric("rounds", "rounds", "", "measured", "passes over the weights that verified a draft"),
        Metric("weight_bytes", "weights", "B", "measured", "bytes of all resident weights"),
        Metric("kv_bytes", "KV cache", "B", "measured", "bytes held for keys and values at the end of the run"),
        Metric("kv_tokens", "KV tokens", "tokens", "measured", "tokens whose keys and values are held at the end"),
        Metric(
            "peak_memory_bytes",
            "peak memory",
            "B",
            "measured",
            "highest resident memory of the engine while it ran",
        ),
        Metric(
            "mbu",
            "MBU",
            "",
            "derived",
            "weight and KV bytes read a pass / its time / measured bandwidth",
        ),
        Metric("prompt_tokens", "prompt", "tokens", "measured", "tokens in the prompt"),
        Metric("cached_tokens", "cached", "tokens", "measured", "prompt tokens that an earlier run had computed"),
        Metric("new_tokens", "generated", "tokens", "measured", "tokens generated"),
        Metric("load_ms", "load", "ms", "measured", "reading, converting and placing the weights; imports apart"),
    )
}

"""Names, units, badges and definitions of every number that a run reports."""

from __future__ import annotations

from dataclasses import dataclass

from core.charts.chart import Badge


@dataclass(frozen=True)
class Metric:
    """One reported number. lower_is_better: None where neither direction is better."""

    name: str
    label: str
    unit: str
    badge: Badge
    definition: str
    lower_is_better: bool | None = None


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("ttft_ms", "TTFT", "ms", "measured", "request sent to first token", True),
        Metric("tpot_ms", "TPOT", "ms", "derived", "(end-to-end latency − TTFT) / (tokens − 1)", True),
        Metric("e2e_ms", "E2EL", "ms", "measured", "request sent to last token", True),
        Metric("itl_p50_ms", "ITL median", "ms", "derived", "median gap between streamed chunks", True),
        Metric("itl_p99_ms", "ITL 99th", "ms", "derived", "99th percentile of the gaps between streamed chunks", True),
        Metric("prefill_tokens_per_s", "prefill", "tok/s", "derived", "prompt tokens / prefill time", False),
        Metric("decode_tokens_per_s", "decode", "tok/s", "derived", "1000 / TPOT", False),
        Metric("acceptance_rate", "acceptance rate", "", "derived", "accepted / drafted tokens", False),
        Metric("mean_acceptance_length", "acceptance length", "tokens", "derived", "1 + accepted / rounds", False),
        Metric("rounds", "rounds", "", "measured", "passes over the weights that verified a draft"),
        Metric("weight_bytes", "weights", "B", "measured", "bytes of all resident weights", True),
        Metric("kv_bytes", "KV cache", "B", "measured", "bytes held for keys and values at the end of the run", True),
        Metric("kv_tokens", "KV tokens", "tokens", "measured", "tokens whose keys and values are held at the end"),
        Metric(
            "peak_memory_bytes",
            "peak memory",
            "B",
            "measured",
            "highest resident memory of the engine while it ran",
            True,
        ),
        Metric(
            "mbu",
            "MBU",
            "",
            "derived",
            "weight and KV bytes read a pass / its time / measured bandwidth",
            False,
        ),
        Metric("prompt_tokens", "prompt", "tokens", "measured", "tokens in the prompt"),
        Metric("new_tokens", "generated", "tokens", "measured", "tokens generated"),
        Metric("load_ms", "load", "ms", "measured", "reading, converting and placing the weights; imports apart", True),
    )
}

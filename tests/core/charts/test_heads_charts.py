"""Variants of KV heads: who shares, what a token takes, and which one is chosen."""

from __future__ import annotations

import pytest

from core.charts.chart import table
from core.charts.heads import bytes_of, groups_of, variants
from core.config import RunConfig
from core.models.info import ModelInfo

INFO = ModelInfo(
    name="x", path="/x", format="safetensors", architecture="llama", engine="local", layers=4, width=72, query_heads=9,
    kv_heads=3, head_size=8, ffn_width=96, vocabulary=100, context=1000, parameters=100_000,
)  # fmt: skip


def config(*settings: str) -> RunConfig:
    return RunConfig().set(settings)


@pytest.mark.parametrize(
    ("settings", "chosen"),
    [
        ([], "GQA, 3 KV heads, as trained"),
        (["heads.name=kv_sharing", "heads.kv_heads=9"], "MHA, 9 KV heads"),
        (["heads.name=kv_sharing", "heads.kv_heads=1"], "MQA, 1 KV head"),
        (["heads.name=latent_kv", "heads.rank=20"], "latent of 20"),
    ],
)
def test_that_the_chosen_variant_is_marked(settings: list[str], chosen: str) -> None:
    assert [variant.label for variant in variants(config(*settings), INFO) if variant.chosen] == [chosen]
    heatmap = groups_of(config(*settings), INFO).heatmap
    assert heatmap is not None
    assert [label for label in heatmap.row_labels if label.startswith("▸")] == [f"▸ {chosen}"]
    assert [name for name in bytes_of(config(*settings), INFO).categories if name.startswith("▸")] == [f"▸ {chosen}"]


def test_that_query_heads_of_one_group_read_one_kv_head() -> None:
    heatmap = groups_of(config(), INFO).heatmap
    assert heatmap is not None
    assert heatmap.values.tolist() == [
        [0, 1, 2, 3, 4, 5, 6, 7, 8], [0, 0, 0, 3, 3, 3, 6, 6, 6], [0] * 9, [0, 0, 0, 3, 3, 3, 6, 6, 6],
    ]  # fmt: skip


def test_that_bytes_are_those_of_a_token_in_all_layers() -> None:
    assert [variant.nbytes for variant in variants(config(), INFO)] == [4 * 2 * n * 8 * 2 for n in (9, 3, 1)] + [4 * 24 * 2]
    halved = config("heads.name=kv_sharing", "heads.kv_heads=1", "heads.layers=0,1")
    chart = bytes_of(halved, INFO)
    assert table(chart).rows[2][2] == (2 * 16 + 2 * 48) * 2
    assert "kv_sharing applies to layers 0,1 alone" in chart.notes
    assert next(variant.nbytes for variant in variants(config("weights.name=cast"), INFO)) == 4 * 2 * 9 * 8 * 4

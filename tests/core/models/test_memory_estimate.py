"""What memory a configuration is said to need, against what it then takes."""

from __future__ import annotations

import pytest

from core.config import RunConfig
from core.engine.engine import Engine
from core.events import MEASURE, RunFinished, RunRequest, RunStarted
from core.models.default import is_fetched
from core.models.find import describe
from core.models.info import ModelInfo
from core.models.memory import cached_tokens, estimate, kv_bytes_per_token, weight_bytes

INFO = ModelInfo(
    name="x", path="/x", format="safetensors", architecture="llama", engine="local", layers=4, width=64, query_heads=8,
    kv_heads=2, head_size=8, ffn_width=128, vocabulary=100, context=1000, parameters=100_000,
    tensor_bytes={"BF16": 200_000}, matrix_bytes={"BF16": 180_000}, embedding_bytes=12_800, tied_head=True,
)  # fmt: skip


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine()


def config(*settings: str) -> RunConfig:
    return RunConfig().set(settings)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ([], 200_000),
        (["weights.name=cast"], 400_000),
        (["weights.name=cast", "weights.dtype=float16"], 200_000),
        (["weights.name=rtn", "weights.bits=4", "weights.group_size=32"], 20_000 + 90_000 * 5 / 8),
        (
            ["weights.name=rtn", "weights.bits=8", "weights.layers=0,1", "weights.group_size=32"],
            20_000 + 45_000 * 9 / 8 + 90_000,
        ),
        (["weights.name=bnb_nf4"], 20_000 + 90_000 * 4.5 / 8),
        (["heads.name=kv_sharing", "heads.kv_heads=8"], 200_000 + 4 * 6 * 2 * 64 * 8 * 2),
    ],
)
def test_that_weights_take_what_their_technique_stores(settings: list[str], expected: float) -> None:
    assert weight_bytes(INFO, config(*settings)) == pytest.approx(expected, rel=0.01)


def test_that_the_cache_grows_with_heads_and_number_format() -> None:
    plain = kv_bytes_per_token(INFO, config())
    assert plain == 2 * 4 * 2 * 8 * 2
    assert kv_bytes_per_token(INFO, config("weights.name=cast")) == 2 * plain
    assert kv_bytes_per_token(INFO, config("heads.name=kv_sharing", "heads.kv_heads=8")) == 4 * plain
    assert kv_bytes_per_token(INFO, config("heads.name=kv_sharing", "heads.kv_heads=1", "heads.layers=0,1")) == plain * 6 // 8
    assert kv_bytes_per_token(INFO, config("heads.name=latent_kv", "heads.rank=8", "heads.layers=0,1,2")) == plain * 7 // 16
    assert kv_bytes_per_token(INFO, config("cache.name=off")) == 0


@pytest.mark.parametrize(
    ("settings", "tokens"),
    [
        (["cache.name=static"], 300),
        (["cache.name=static", "cache.capacity=900"], 900),
        (["cache.name=rolling", "cache.window=64"], 64),
        (["cache.name=rolling", "cache.window=640"], 640),
        (["cache.name=sinks", "cache.sinks=4", "cache.window=64"], 68),
        (["cache.name=sinks", "cache.sinks=4", "cache.window=640"], 644),
        (["cache.name=quantized"], 256),
        (["cache.name=h2o"], 60),
        (["cache.name=h2o", "cache.budget=80"], 80),
        (["cache.name=snapkv"], 256),
        (["cache.name=snapkv", "run.max_new_tokens=290"], 292),
        (["cache.name=paged", "cache.block_size=16"], 304),
        (["cache.name=dynamic"], 300),
        (["cache.name=off"], 0),
    ],
)
def test_that_the_cache_policy_decides_how_many_tokens_are_held(settings: list[str], tokens: int) -> None:
    assert cached_tokens(config(*settings), 300) == tokens


def test_that_a_cache_that_condenses_the_prompt_takes_less_at_the_end_than_before() -> None:
    found = estimate(INFO, config("cache.name=snapkv", "cache.budget=100", "run.max_new_tokens=20"), 800)
    assert found.kv_end == 120 * found.kv_per_token
    assert found.parts["kv"] == 800 * found.kv_per_token
    assert found.total == sum(found.parts.values())
    plain = estimate(INFO, config("run.max_new_tokens=20"), 800)
    assert plain.kv_end == plain.parts["kv"] == 820 * plain.kv_per_token


def test_that_few_bits_and_a_file_take_less_memory() -> None:
    plain = kv_bytes_per_token(INFO, config())
    assert kv_bytes_per_token(INFO, config("cache.name=offloaded")) == plain // 2
    assert kv_bytes_per_token(INFO, config("cache.name=quantized", "cache.bits=4")) == plain * (4 + 2.5) // 16
    long = estimate(INFO, config("cache.name=quantized", "cache.bits=2", "run.max_new_tokens=1"), 899)
    assert long.parts["kv"] == 27 * 32 * long.kv_per_token + 60 * plain


def test_that_an_estimate_adds_up_and_stops_at_the_context() -> None:
    short = estimate(INFO, config("cache.name=static", "run.max_new_tokens=100"), 50)
    assert short.parts["kv"] == 150 * short.kv_per_token
    assert short.total == sum(short.parts.values())
    assert short.weights == short.parts["weights"]
    assert short.available is not None
    assert short.available > 0
    full = estimate(INFO, config("cache.name=static", "run.max_new_tokens=100000"), 50)
    assert full.parts["kv"] == INFO.context * full.kv_per_token


@pytest.mark.skipif(not is_fetched(), reason="the default model is not fetched")
@pytest.mark.parametrize(
    "settings",
    [
        [],
        ["weights.name=rtn", "weights.bits=3", "weights.layers=0-9"],
        ["heads.name=kv_sharing", "heads.kv_heads=1"],
        ["heads.name=latent_kv", "heads.rank=100", "heads.layers=0-9"],
        ["heads.name=kv_sharing", "heads.kv_heads=1", "heads.pool=least_squares", "heads.layers=0-9"],
    ],
)
def test_that_the_loaded_model_takes_what_was_estimated(settings: list[str]) -> None:
    from core.engine.local import LocalBackend

    loaded = LocalBackend.load(config(*settings), lambda _stage, _done, _total: None)
    assert weight_bytes(describe("default"), config(*settings)) == pytest.approx(loaded.weight_bytes, rel=0.01)


@pytest.mark.skipif(not is_fetched(), reason="the default model is not fetched")
@pytest.mark.parametrize("new_tokens", [4, 300])
@pytest.mark.parametrize("name", ["dynamic", "static", "rolling", "sinks", "h2o", "snapkv", "quantized", "paged"])
def test_that_a_run_ends_with_the_cache_that_was_estimated(engine: Engine, name: str, new_tokens: int) -> None:
    run = config(f"cache.name={name}", f"run.max_new_tokens={new_tokens}", "run.ignore_eos=true")
    events = list(engine.run(RunRequest(run, "Name a colour.", inspect=MEASURE)))
    started, finished = next(event for event in events if isinstance(event, RunStarted)), events[-1]
    assert isinstance(finished, RunFinished)
    expected = estimate(started.info, run, len(started.prompt_tokens)).kv_end
    assert finished.metrics["kv_bytes"] == pytest.approx(expected, rel=0.01)

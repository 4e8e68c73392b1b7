"""What is refused before a run, and why."""

import pytest

from core.compatibility import refusals, refuse, refused_techniques
from core.config import RunConfig
from core.cuda import support
from core.cuda.support import device_of
from core.errors import BadInput
from core.models.info import ModelInfo
from core.techniques import CATALOGUE

SHAPE = {
    "name": "tiny", "path": "/tiny", "format": "safetensors", "architecture": "llama", "engine": "local", "layers": 4,
    "width": 64, "query_heads": 9, "kv_heads": 3, "head_size": 8, "ffn_width": 96, "vocabulary": 300, "context": 128,
    "parameters": 10_000,
}  # fmt: skip
DENSE = ModelInfo(**SHAPE)
MIXTURE = ModelInfo(**SHAPE | {"architecture": "mixtral", "experts": 4, "experts_used": 2})
OLMO2 = ModelInfo(**SHAPE | {"architecture": "olmo2"})
GEMMA2 = ModelInfo(**SHAPE | {"architecture": "gemma2"})
GGUF = ModelInfo(**SHAPE | {"format": "gguf"})
MAMBA = ModelInfo(**SHAPE | {"architecture": "mamba", "engine": "transformers"})


@pytest.mark.parametrize(
    ("model", "settings", "says"),
    [
        (DENSE, "ffn.name=experts", "no experts"),
        (DENSE, "ffn.name=moefy ffn.experts=7", "does not divide the FFN width 96; near it are 3, 4, 6, 8"),
        (DENSE, "ffn.name=moefy ffn.experts=4 ffn.top_k=5", "ffn.top_k=5 is more than ffn.experts=4"),
        (MIXTURE, "ffn.name=moefy", "already is a mixture of 4"),
        (MIXTURE, "ffn.name=experts ffn.top_k=5", "more than the model's 4"),
        (DENSE, "heads.name=kv_sharing heads.kv_heads=2", "does not divide the model's 9 query heads; possible are 1, 3, 9"),
        (DENSE, "heads.name=kv_sharing heads.kv_heads=18", "does not divide"),
        (OLMO2, "heads.name=kv_sharing heads.kv_heads=1 heads.repair=true", "norms what W_o gives"),
        (GEMMA2, "heads.name=kv_sharing heads.kv_heads=1 heads.repair=true", "norms what W_o gives"),
        (DENSE, "heads.name=latent_kv heads.rank=49", "heads.rank=49 is more than the 48 numbers"),
        (DENSE, "engine.name=transformers heads.name=latent_kv heads.rank=9", "projections"),
        (DENSE, "heads.name=latent_kv heads.rank=9 cache.name=sinks", "turns keys to other positions"),
        (DENSE, "heads.name=latent_kv heads.rank=9 cache.name=h2o", "each KV head by itself"),
        (DENSE, "attention.name=window attention.layers=9", "not a selection of the model's 4 layers"),
        (DENSE, "attention.name=linformer attention.rank=5", "attention.rank=5 does not divide attention.block=64"),
        (DENSE, "attention.name=linear_elu cache.name=rolling", "caches no keys that rolling could hold"),
        (DENSE, "decoding.name=prompt_lookup cache.name=rolling", "taken back"),
        (DENSE, "decoding.name=prompt_lookup cache.name=h2o", "taken back, and the h2o cache"),
        (DENSE, "cache.name=h2o attention.name=linear_elu attention.layers=0", "told of all attention weights"),
        (DENSE, "cache.name=sinks attention.name=performer attention.layers=0", "positions of its own"),
        (DENSE, "cache.name=sinks attention.name=sink_window", "already keeps sinks and a window"),
        (DENSE, "cache.name=h2o cache.budget=64 cache.recent=64", "leaves no room for others in cache.budget=64"),
        (DENSE, "decoding.name=prompt_lookup cache.name=sinks", "taken back, and the ring behind the sinks"),
        (MAMBA, "decoding.name=prompt_lookup engine.name=transformers", "recurrent state"),
        (MAMBA, "run.ignore_eos=true", "does not know the architecture mamba"),
        (DENSE, "engine.name=transformers cache.name=static", "its own growing one"),
        (DENSE, "engine.name=transformers weights.name=rtn", "packed weights"),
        (DENSE, "engine.name=transformers attention.name=window", "attention mask"),
        (DENSE, "engine.name=transformers heads.name=kv_sharing heads.kv_heads=9", "projections"),
        (DENSE, "engine.name=transformers ffn.name=moefy", "feed-forward"),
        (DENSE, "engine.name=transformers weights.name=bnb_nf4 weights.layers=0-1", "all layers"),
        (GGUF, "engine.name=transformers weights.name=bnb_int8", "does not combine bitsandbytes with a GGUF file"),
    ],
)
def test_that_what_cannot_work_is_refused_with_the_reason(model: ModelInfo, settings: str, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        refuse(RunConfig().set(settings.split()), model)


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        (DENSE, "heads.name=kv_sharing heads.kv_heads=9 ffn.name=moefy cache.name=static weights.name=rtn"),
        (DENSE, "heads.name=latent_kv heads.rank=48 cache.name=rolling attention.name=window weights.name=rtn"),
        (DENSE, "decoding.name=prompt_lookup cache.name=off attention.name=sink_window"),
        (DENSE, "attention.name=landmark attention.layers=0-2 cache.name=rolling"),
        (DENSE, "attention.name=performer decoding.name=prompt_lookup"),
        (DENSE, "engine.name=transformers weights.name=cast decoding.name=prompt_lookup"),
        (MIXTURE, "ffn.name=experts ffn.top_k=4"),
        (DENSE, "decoding.name=prompt_lookup cache.name=snapkv attention.name=window"),
        (DENSE, "decoding.name=prompt_lookup cache.name=quantized attention.name=sink_window"),
        (MAMBA, "engine.name=transformers"),
    ],
)
def test_that_what_works_is_let_through(model: ModelInfo, settings: str) -> None:
    assert refusals(RunConfig().set(settings.split()), model) == []


UNFIT = {("ffn", "experts"), ("attention", "linear_learned")}  # for a dense model that nothing was trained for


def test_that_every_technique_but_those_for_other_models_can_be_chosen_on_a_dense_model() -> None:
    assert set(refused_techniques(RunConfig(), DENSE)) == UNFIT


def test_that_nothing_is_refused_for_the_sake_of_a_model_that_is_not_known_yet() -> None:
    assert refused_techniques(RunConfig(), None) == {}


def test_that_a_choice_greys_out_what_it_rules_out_and_nothing_else() -> None:
    refused = refused_techniques(RunConfig().set(["cache.name=rolling"]), DENSE)
    states = {("attention", name) for name in ("linear_elu", "performer", "linformer", "landmark")}
    assert set(refused) == {*UNFIT, *states, ("decoding", "prompt_lookup"), ("engine", "transformers")}
    assert "taken back" in refused["decoding", "prompt_lookup"]


def test_that_the_transformers_engine_greys_out_what_it_does_not_apply() -> None:
    refused = refused_techniques(RunConfig().set(["engine.name=transformers"]), DENSE)
    kept = {(family, name) for family, rows in CATALOGUE.items() for name in rows} - set(refused)
    assert {name for family, name in kept if family == "cache"} == {"dynamic"}
    assert ("weights", "bnb_nf4") in kept
    assert ("weights", "rtn") in refused
    assert ("engine", "local") in kept


def test_that_a_model_of_another_engine_greys_out_the_local_one() -> None:
    refused = refused_techniques(RunConfig(), MAMBA)
    assert "does not know the architecture" in refused["engine", "local"]
    assert ("engine", "transformers") not in refused


def test_that_the_default_configuration_is_tested_on_the_processor_on_every_machine():
    assert device_of(RunConfig(), DENSE) == "cpu"
    assert "of the processor" in support.missing()

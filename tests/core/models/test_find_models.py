"""What the name of a model stands for, and what names that stand for nothing are told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from gguf_samples import write_sample
from tiny_models import tiny_model

from core.errors import BadInput, RunFailed
from core.models import hub
from core.models.find import available, describe, is_hub_id, locate, open_checkpoint, resolve

TORCH_FREE = """
import sys
from pathlib import Path
from core.config import RunConfig
from core.models.find import available, describe, locate
from core.models.memory import estimate
from core.models.tokenizer import open_tokenizer
for name in sys.argv[1:]:
    estimate(describe(name), RunConfig(), 100)
    if Path(name).is_file():
        open_tokenizer(locate(name)).encode("hello")
available()
heavy = {"torch", "transformers", "bitsandbytes", "numba", "huggingface_hub"} & set(sys.modules)
assert not heavy, heavy
"""


def test_that_describing_estimating_and_tokenizing_need_no_torch(tmp_path: Path) -> None:
    write_sample(tmp_path / "sample.gguf")
    tiny_model("llama").save_pretrained(tmp_path / "folder")
    subprocess.run([sys.executable, "-c", TORCH_FREE, tmp_path / "sample.gguf", tmp_path / "folder"], check=True)


def test_that_a_file_and_a_folder_stand_for_themselves(tmp_path: Path) -> None:
    write_sample(tmp_path / "Sample.GGUF")
    tiny_model("llama").save_pretrained(tmp_path / "folder")
    for name in ("Sample.GGUF", "folder"):
        path = tmp_path / name
        assert resolve(str(path)) == locate(str(path)) == path
        assert describe(str(path)) == open_checkpoint(str(path)).info


def test_that_a_folder_with_one_gguf_file_stands_for_that_file(tmp_path: Path) -> None:
    write_sample(tmp_path / "one.gguf")
    assert locate(str(tmp_path)) == tmp_path / "one.gguf"
    write_sample(tmp_path / "two.gguf")
    with pytest.raises(BadInput, match=r"holds 2 GGUF files; name one of them, such as one\.gguf"):
        locate(str(tmp_path))


@pytest.mark.parametrize("suffix", [".bin", ".pt", ".pth", ".ckpt", ".PKL"])
@pytest.mark.parametrize("exists", [True, False])
def test_that_pickles_are_refused_with_the_reason(suffix: str, exists: bool, tmp_path: Path) -> None:
    path = tmp_path / f"model{suffix}"
    if exists:
        path.write_bytes(b"\x80\x04.")
    with pytest.raises(BadInput, match="runs whatever code it holds; use safetensors or GGUF"):
        describe(str(path))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nothing", "no such file or folder; a model is a folder, a .gguf file, default or a hub id"),
        ("./a/b", "no such file or folder"),
        ("models/x.gguf", "no such file or folder"),
        ("a/b/c", "no such file or folder"),
        (__file__, "not a model"),
    ],
)
def test_that_a_name_of_nothing_says_what_names_are(name: str, words: str) -> None:
    for use in (describe, resolve, open_checkpoint):
        with pytest.raises(BadInput, match=words):
            use(name)


def test_that_a_single_safetensors_file_points_to_its_folder(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"x")
    with pytest.raises(BadInput, match="open the folder that holds it"):
        describe(str(tmp_path / "model.safetensors"))


def test_that_hub_ids_are_told_from_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_hub_id("owner/name-1.5B")
    assert not any(map(is_hub_id, ("default", "a/b/c", "../name", "./x", "/abs", "a/b.gguf", "a/b.bin")))
    (tmp_path / "owner" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert not is_hub_id("owner/name")


def test_that_a_hub_id_that_is_not_here_is_one_sentence_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(BadInput, match="owner/name: not on this machine yet; inference-playground models fetch owner/name"):
        describe("owner/name")
    with pytest.raises(RunFailed, match="owner/name: not on this machine, and the hub cannot be reached") as caught:
        resolve("owner/name")
    assert "\n" not in str(caught.value)


def test_that_a_cached_hub_model_is_found_under_its_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    snapshot = tmp_path / "models--owner--name" / "snapshots" / ("0" * 40)
    tiny_model("llama").save_pretrained(snapshot)
    (tmp_path / "models--owner--name" / "refs").mkdir()
    (tmp_path / "models--owner--name" / "refs" / "main").write_text("0" * 40)
    monkeypatch.setattr(huggingface_hub._snapshot_download.constants, "HF_HUB_CACHE", str(tmp_path))
    assert describe("owner/name").name == "owner/name"


def test_that_a_download_reports_bytes(capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[tuple[str, int, int]] = []
    bar = hub._watched(lambda *progress: seen.append(progress))(total=10, unit="B", desc="x")
    bar.update(4)
    bar.update(6)
    assert seen == [("downloading", 4, 10), ("downloading", 10, 10)]
    assert capsys.readouterr() == ("", "")


def test_that_models_in_the_cache_folder_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFERENCE_PLAYGROUND_CACHE", str(tmp_path))
    assert available() == []
    (tmp_path / "models").mkdir()
    write_sample(tmp_path / "models" / "own.gguf")
    tiny_model("llama").save_pretrained(tmp_path / "models" / "folder")
    assert [model.path.name for model in available()] == ["own.gguf", "folder"]

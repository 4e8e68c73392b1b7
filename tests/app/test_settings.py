"""Settings: kept between two starts, and never in the way of one."""

import pytest

from app import settings
from app.settings import MOST_RECENT, Settings
from core.errors import RunFailed


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("INFERENCE_PLAYGROUND_CONFIG", str(tmp_path / "config"))
    return tmp_path / "config"


def test_that_the_first_start_has_fresh_settings():
    assert settings.read() == Settings()
    assert settings.read().notice == ""


def test_that_settings_are_read_back():
    kept = Settings(["default", "/models/a.gguf"], "dark", "/sessions/one.json", "AAEC", "AwQF")
    kept.save()
    assert settings.read() == kept


def test_that_recent_models_are_the_latest_first_without_repeats():
    kept = Settings()
    for number in range(MOST_RECENT + 2):
        kept.remember_model(f"model {number}")
    kept.remember_model("model 5")
    assert kept.recent_models[:2] == ["model 5", f"model {MOST_RECENT + 1}"]
    assert len(kept.recent_models) == len(set(kept.recent_models)) == MOST_RECENT


@pytest.mark.parametrize("text", ["{", "[]", '{"theme": "purple"}', '{"recent_models": [1]}', "\udcff"])
def test_that_a_damaged_file_is_moved_aside_with_a_notice(folder, text):
    folder.mkdir()
    (folder / "settings.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    read = settings.read()
    assert read == Settings()
    assert "damaged" in read.notice
    assert "\n" not in read.notice
    assert [path.name.startswith("settings-damaged-") for path in folder.iterdir()] == [True]
    assert settings.read().notice == ""


def test_that_a_field_of_a_later_version_does_no_harm(folder):
    folder.mkdir()
    (folder / "settings.json").write_text('{"theme": "light", "colour": "red"}')
    assert settings.read() == Settings(theme="light")


def test_that_settings_that_cannot_be_kept_say_why(folder):
    folder.write_text("a file where the folder should be")
    with pytest.raises(RunFailed, match="settings cannot be kept"):
        Settings().save()

"""Settings are read strictly, and the shipped ones are complete."""

from pathlib import Path

import pytest

from thermoscale.errors import InvalidInput
from thermoscale_train.config import CONFIG_FOLDER, load_amun_settings, load_iustfm_settings, settings_to_json


def test_the_shipped_settings_load() -> None:
    assert load_amun_settings().network.depth == 1
    settings = load_iustfm_settings()
    assert (settings.dynet.network.layers, settings.dynet.network.hidden) == (5, 128)
    assert settings.ratio_net.network.hidden == (40, 40, 40, 10, 10)
    assert settings_to_json(settings)["dynet"]["network"]["m_max"] == 2000


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("depth = 1", "", r"missing keys \['depth'\]"),
        ("depth = 1", "depth = 1\nbreadth = 2", r"unknown keys \['breadth'\]"),
        ("depth = 1", 'depth = "deep"', "depth is 'deep'"),
        ("depth = 1", "depth = 1.5", "depth is 1.5"),
        ("[loss]", "[losses]", r"unknown keys \['losses'\]"),
        ("depth = 1", "depth = ", "not TOML"),
    ],
)
def test_a_wrong_key_or_value_is_named(tmp_path: Path, old: str, new: str, named: str) -> None:
    text = (CONFIG_FOLDER / "amun.toml").read_text()
    assert old in text
    (tmp_path / "a.toml").write_text(text.replace(old, new))
    with pytest.raises(InvalidInput, match=named):
        load_amun_settings(tmp_path / "a.toml")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"none\.toml"):
        load_iustfm_settings(tmp_path / "none.toml")

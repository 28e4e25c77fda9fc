"""data.in_memory is refused where it would change what is learned, or do nothing."""

import pytest
from rendering import make, make_music

from data_recipes import render
from resonate.data.module import CaptureData, DataConfig
from resonate.degrade.chain import ChainConfig
from resonate.errors import UserError
from resonate.training.config import TrainConfig
from resonate.training.heldout import SeparatorData


@pytest.mark.parametrize("source", [{"music": "songs"}, {"cache": "out", "shards": "out/train-000000.tar"}])
def test_without_a_cache_to_read_from(source, tmp_path):
    config = DataConfig(in_memory=True, **{name: str(tmp_path / value) for name, value in source.items()})
    with pytest.raises(UserError, match=r"data\.cache=FOLDER"):
        CaptureData(config, ChainConfig(), 1).setup()


def test_for_a_separator(tmp_path):
    make_music(tmp_path / "music")
    render.render(make(tmp_path / "music", tmp_path / "out", "per_shard=1", "shards.train=1"))
    data = DataConfig(cache=str(tmp_path / "out"), seconds=0.5, in_memory=True)
    CaptureData(data, ChainConfig(), 1).setup()
    with pytest.raises(UserError, match="the separator learns from"):
        SeparatorData(TrainConfig(data=data)).setup()


@pytest.mark.parametrize("setting", [{"clean_share": 0.5}, {"clean_share": 1.5, "cache": "out"}, {"tone_share": 0.5},
                                     {"tone_share": 0.5, "cache": "out"}])
def test_shares_that_would_do_nothing(setting, tmp_path):
    values = {name: str(tmp_path / value) if name == "cache" else value for name, value in setting.items()}
    with pytest.raises(UserError, match=next(iter(setting))):
        CaptureData(DataConfig(**values), ChainConfig(), 1).setup()

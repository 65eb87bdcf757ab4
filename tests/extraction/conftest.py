"""An untrained run, real clips, and all layers of all clips."""

import pytest

from tests.stores import clips, extract, tiny_run


@pytest.fixture(autouse=True, scope="module")
def _cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return tiny_run(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def source(corpus, tmp_path_factory):
    return clips(corpus, tmp_path_factory.mktemp("clips") / "clips.jsonl")


@pytest.fixture(scope="module")
def whole(run, source, tmp_path_factory):
    """All layers of all clips."""
    return extract(run, source, tmp_path_factory.mktemp("store") / "all")

"""A tiny run, files to read, and a cache of data sets of one's own."""

import datasets
import pytest
from training_runs import tiny_recipe

from trefoil.training.run import train


@pytest.fixture(autouse=True, scope="session")
def _own_cache_of_data_sets(tmp_path_factory):
    """A file that a test writes is never taken for one that an earlier test run left in the cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))
        yield


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory):
    """A tiny run that nothing interrupted; not to be changed."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    train(tiny_recipe(folder))
    return folder


@pytest.fixture
def write(tmp_path):
    """Write a file of a data folder: text as UTF-8, bytes as they are; returns the file."""

    def write_file(name, content):
        file = tmp_path / "data" / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return file

    return write_file

import pytest

from tests.support.model_pairs import PairFolders, make_pair


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> PairFolders:
    """A Mistral-like source and a Llama-like target with random weights."""
    return make_pair(tmp_path_factory.mktemp("pair"))

"""Public models that nobody has touched and that train: step 1 ends well on each, and warns of nothing."""

import pytest

from tests.slow.public_models import MODELS, checked


def test_there_are_as_many_models_as_the_table_is_to_have():
    assert sum(name.startswith("torchvision.") for name in MODELS) >= 40
    assert sum(name.startswith("timm.") for name in MODELS) >= 15


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", MODELS)
def test_an_untouched_public_model_is_warned_of_nothing(name, tmp_path):
    if name.startswith("timm."):
        pytest.importorskip("timm")
    row = checked(name, tmp_path)
    assert row.code == 0, row.said
    assert set(row.findings.values()) <= {"note"}, row.said

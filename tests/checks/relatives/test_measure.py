import pytest
import torch

from tests.checks.probe_models import mlp
from tuner.checks.relatives.measure import relatives
from tuner.checks.shifted_windows.measure import shifted_windows
from tuner.checks.tools.frame import CannotProbe


def rows(n, seed, columns=8):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, columns, generator=generator), torch.arange(n) % 2


def near(train, noise, seed=3):
    generator = torch.Generator().manual_seed(seed)
    return train[0] + noise * torch.randn(train[0].shape, generator=generator), train[1]


def test_rows_drawn_one_by_one_have_no_relatives(setup_of):
    found = relatives(setup_of(rows(2000, 0), mlp(), val=rows(400, 1)))
    assert found.rare <= 0.005
    assert 6 < found.dimension < 9  # normal numbers in 8 columns


def test_noisy_copies_of_train_rows_in_val_are_relatives_of_the_same_label(setup_of):
    train = rows(2000, 0)
    val = tuple(part[:400] for part in near(train, 0.1))
    found = relatives(setup_of(train, mlp(), val=val))
    assert found.rare > 0.5
    assert found.agreeing == 1.0


def test_inputs_of_two_values_are_not_asked(setup_of):
    train, val = ((inputs > 0).float() for inputs in (rows(2000, 0)[0], rows(400, 1)[0]))
    with pytest.raises(CannotProbe, match="one of two values: distances are counts"):
        relatives(setup_of((train, torch.arange(2000) % 2), mlp(), val=(val, torch.arange(400) % 2)))


def test_copies_within_train_alone_are_told_from_relatives_across_the_split(setup_of):
    train = rows(1000, 0)
    twice = tuple(torch.cat([a, b]) for a, b in zip(train, near(train, 0.1), strict=True))
    found = relatives(setup_of(twice, mlp(), val=rows(400, 1)))
    assert found.rare <= 0.005
    assert found.rare_in_train > 0.5


def test_equal_rows_are_counted_apart(setup_of):
    train = rows(2000, 0)
    found = relatives(setup_of(train, mlp(), val=tuple(part[:300] for part in train)))
    assert found.equal == 300
    assert found.hits == 0


def test_whole_numbers_have_no_distances(setup_of):
    train, val = ((torch.randint(0, 9, (400, 30)), torch.arange(400) % 2) for _ in range(2))
    for probe in (relatives, shifted_windows):
        with pytest.raises(CannotProbe, match="whole numbers"):
            probe(setup_of(train, mlp(), val=val))


def windows(starts, seed=0):
    signal = torch.randn(2, 3000, generator=torch.Generator().manual_seed(seed))
    return torch.stack([signal[:, at : at + 48] for at in starts]), torch.arange(len(starts)) % 2


def test_windows_that_overlap_are_found_at_their_shift_scaled_or_not(setup_of):
    train, val = windows(range(0, 2900, 16)), windows(range(8, 2900, 16))
    assert shifted_windows(setup_of(train, mlp(), val=val)).shifted > 0.9
    scaled = (2 * val[0] - 1, val[1])
    assert shifted_windows(setup_of(train, mlp(), val=scaled)).shifted > 0.9


def test_windows_of_other_recordings_are_not(setup_of):
    setup = setup_of(windows(range(0, 2900, 16)), mlp(), val=windows(range(0, 2900, 16), seed=1))
    assert shifted_windows(setup).shifted == 0


def test_equal_windows_at_the_same_place_are_copies_and_not_shifted(setup_of):
    train = windows(range(0, 2900, 48))
    assert shifted_windows(setup_of(train, mlp(), val=train)).shifted == 0


def test_short_rows_are_no_sequences(setup_of):
    assert shifted_windows(setup_of(rows(200, 0), mlp(), val=rows(50, 1))).asked == 0

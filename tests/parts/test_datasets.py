"""The built-in sources: what they give, and what they say when they cannot."""

import gzip
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tuner.core.errors import EnvironmentProblem, InputError, UsageError
from tuner.parts import datasets, idx_files, image_files
from tuner.recipe import registry
from tuner.recipe.user_files import hash_data
from tuner.train.cache import cache_path, open_stored


def quiet(share: float, words: str) -> None:
    pass


def image(path: Path, seed: int = 0, size: tuple[int, int] = (6, 4), mode: str = "RGB") -> np.ndarray:
    """Write a random image (width, height) and return its pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = {"RGB": (3,), "L": (), "RGBA": (4,)}[mode]
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], *channels), dtype=np.uint8)
    Image.fromarray(pixels, mode).save(path)
    return pixels


def folder(root: Path, classes=("cat", "dog"), count: int = 2, **kwargs) -> Path:
    for label, name in enumerate(classes):
        for i in range(count):
            image(root / name / f"{i}.png", 10 * label + i, **kwargs)
    return root


# --- digits and downloads ------------------------------------------------------------------------------------


def test_digits_are_the_images_of_scikit_learn(tmp_path):
    from sklearn.datasets import load_digits

    loaded = datasets.digits()
    pixels = open_stored(loaded.train.inputs, tmp_path, quiet)
    assert pixels.shape == (1797, 8, 8, 1) and pixels.dtype == np.uint8
    assert np.array_equal(np.rint(pixels[..., 0] * (16 / 255)), load_digits().images)
    assert np.array_equal(open_stored(loaded.train.targets, tmp_path, quiet), load_digits().target)
    assert loaded.test is None and loaded.class_names == tuple("0123456789")


def idx(path: Path, values: np.ndarray) -> None:
    header = struct.pack(">BBBB", 0, 0, 8, values.ndim) + struct.pack(f">{values.ndim}I", *values.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header + values.tobytes())
    with gzip.open(f"{path}.gz", "wb") as file:
        file.write(header + values.tobytes())


@pytest.mark.parametrize(("source", "name"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST")])
def test_mnist_files_are_read_with_their_own_test_split(tmp_path, source, name):
    rng = np.random.default_rng(0)
    wanted = {}
    for prefix, n in (("train", 6), ("t10k", 4)):
        pixels = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        labels = rng.integers(0, 10, n, dtype=np.uint8)
        idx(tmp_path / name / "raw" / f"{prefix}-images-idx3-ubyte", pixels)
        idx(tmp_path / name / "raw" / f"{prefix}-labels-idx1-ubyte", labels)
        wanted[prefix] = pixels, labels
    loaded = getattr(datasets, source)(tmp_path / "cache", root=str(tmp_path), download=False)
    for split, prefix in ((loaded.train, "train"), (loaded.test, "t10k")):
        pixels, labels = wanted[prefix]
        assert np.array_equal(open_stored(split.inputs, tmp_path / "cache", quiet)[..., 0], pixels)
        assert np.array_equal(open_stored(split.targets, tmp_path / "cache", quiet), labels)
    assert loaded.val is None and len(loaded.class_names) == 10


@pytest.mark.parametrize("packed", [True, False])
def test_idx_files_are_read_from_the_folder_itself(tmp_path, packed):
    wanted = {}
    for prefix, n in (("train", 6), ("t10k", 4)):
        wanted[prefix] = np.arange(n * 6, dtype=np.uint8).reshape(n, 2, 3), np.arange(n, dtype=np.uint8) % 3
        for name, values in zip(("images-idx3", "labels-idx1"), wanted[prefix], strict=True):
            path = tmp_path / f"{prefix}-{name}-ubyte"
            idx(path, values)
            kept_out = path if packed else path.with_name(f"{path.name}.gz")
            kept_out.unlink()
    loaded = datasets.fashion_mnist(tmp_path / "cache", root=str(tmp_path), download=False)
    for split, prefix in ((loaded.train, "train"), (loaded.test, "t10k")):
        assert np.array_equal(open_stored(split.inputs, tmp_path / "cache", quiet)[..., 0], wanted[prefix][0])
        assert np.array_equal(open_stored(split.targets, tmp_path / "cache", quiet), wanted[prefix][1])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.unlink(), "has no train-labels-idx1-ubyte"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "not an idx file of bytes, or cut off"),
        (lambda path: path.write_bytes(b""), "not an idx file of bytes, or cut off"),
        (lambda path: idx(path, np.zeros(5, dtype=np.uint8)), "train has 6 images and 5 labels"),
    ],
)
def test_idx_files_that_do_not_fit_are_named(tmp_path, spoil, message):
    idx(tmp_path / "train-images-idx3-ubyte", np.zeros((6, 2, 3), dtype=np.uint8))
    idx(tmp_path / "train-labels-idx1-ubyte", np.zeros(6, dtype=np.uint8))
    (tmp_path / "train-labels-idx1-ubyte.gz").unlink()
    spoil(tmp_path / "train-labels-idx1-ubyte")
    with pytest.raises(InputError, match=message):
        idx_files.read_pair(tmp_path, "train")


def test_cifar_keeps_the_arrays_so_that_torchvision_loads_once(tmp_path, monkeypatch):
    import torchvision.datasets

    built = []

    class Fake:
        def __init__(self, root, train, download):
            built.append(train)
            batch = Path(root, "cifar-10-batches-py", "data_batch_1")
            if not batch.exists():
                batch.parent.mkdir(parents=True)
                batch.write_bytes(b"x")
            self.data = np.full((5 if train else 2, 32, 32, 3), 7, dtype=np.uint8)
            self.targets = [1] * len(self.data)

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", Fake)
    for _ in range(2):
        loaded = datasets.cifar10(tmp_path)
        assert open_stored(loaded.train.inputs, tmp_path, quiet).shape == (5, 32, 32, 3)
        assert open_stored(loaded.test.targets, tmp_path, quiet).tolist() == [1, 1]
    assert sorted(built) == [False, True, True]  # to download, then once per split


def test_class_names_are_as_many_as_the_classes():
    assert len(datasets.CIFAR100.split()) == len(set(datasets.CIFAR100.split())) == 100
    assert len(datasets.CIFAR10) == len(datasets.CLOTHES) == 10
    assert list(datasets.CIFAR10) == sorted(datasets.CIFAR10)


@pytest.mark.parametrize("source", ["mnist", "fashion_mnist", "cifar10", "cifar100"])
def test_a_missing_data_set_says_what_to_put_where(tmp_path, source):
    with pytest.raises(InputError, match=r"data.download is false") as error:
        getattr(datasets, source)(tmp_path, root=str(tmp_path / "here"), download=False)
    assert str(tmp_path / "here") in error.value.hint and "data.root" in error.value.hint


@pytest.mark.parametrize("failure", [OSError("no route to host"), RuntimeError("Tried:\nmirror")])
def test_a_failed_download_is_an_input_error(tmp_path, monkeypatch, failure):
    import torchvision.datasets

    def fail(root, train, download):
        raise failure

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", fail)
    with pytest.raises(InputError, match=r"CIFAR10: could not be downloaded") as error:
        datasets.cifar10(tmp_path)
    assert str(tmp_path / "downloads" / "cifar-10-batches-py") in error.value.hint
    assert "\n" not in error.value.message


def test_a_full_disk_while_downloading_is_an_environment_problem(tmp_path, monkeypatch):
    import torchvision.datasets

    def fail(root, train, download):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", fail)
    with pytest.raises(EnvironmentProblem, match=r"disk full while downloading CIFAR10"):
        datasets.cifar10(tmp_path)


# --- image folders -------------------------------------------------------------------------------------------


def test_image_folder_decodes_the_pixels_in_the_order_of_class_and_name(tmp_path):
    wanted = [
        image(tmp_path / name / f"{i}.png", 10 * k + i) for k, name in enumerate(("b", "a", "c")) for i in range(2)
    ]
    loaded = datasets.image_folder(str(tmp_path))
    pixels = open_stored(loaded.train.inputs, tmp_path, quiet)
    assert np.array_equal(pixels, np.stack([wanted[i] for i in (2, 3, 0, 1, 4, 5)]))
    assert loaded.class_names == ("a", "b", "c")
    assert loaded.train.targets.tolist() == [0, 0, 1, 1, 2, 2]
    assert loaded.train.place(2) == str(tmp_path / "b" / "0.png")


def test_image_folder_reads_split_folders(tmp_path):
    for split, count in (("train", 3), ("val", 2), ("test", 1)):
        folder(tmp_path / split, count=count)
    loaded = datasets.image_folder(str(tmp_path))
    assert [len(split.targets) for split in (loaded.train, loaded.val, loaded.test)] == [6, 4, 2]


def test_image_folder_passes_over_hidden_files_and_other_kinds(tmp_path):
    folder(tmp_path)
    (tmp_path / "cat" / ".hidden.png").write_bytes(b"x")
    (tmp_path / "cat" / "notes.txt").write_text("x")
    (tmp_path / ".git").mkdir()
    (tmp_path / "README.md").write_text("x")
    assert len(datasets.image_folder(str(tmp_path)).train.targets) == 4


@pytest.mark.parametrize("target", ["..", ".", "loop"])
def test_image_folder_passes_over_a_link_that_never_ends(tmp_path, target):
    folder(tmp_path / "images")
    (tmp_path / "images" / "loop").symlink_to(target)
    (tmp_path / "images" / "cat" / "loop.png").symlink_to("loop.png")
    assert len(datasets.image_folder(str(tmp_path / "images")).train.targets) == 4
    data = {"source": "image_folder", "root": "images"}
    assert hash_data(data, tmp_path) == hash_data(data, tmp_path) != ""


def test_image_folder_makes_grey_when_asked_for_one_channel(tmp_path):
    colour = image(tmp_path / "a" / "0.png")
    image(tmp_path / "b" / "0.png", mode="L")
    image(tmp_path / "b" / "1.png", mode="RGBA")
    pixels = open_stored(datasets.image_folder(str(tmp_path), channels=1).train.inputs, tmp_path, quiet)
    assert pixels.shape == (3, 4, 6, 1)
    luma = colour @ np.array([0.299, 0.587, 0.114])  # ITU-R 601, as PIL's documentation says
    assert np.abs(pixels[0, ..., 0] - luma).max() <= 1


def test_image_folder_cuts_the_middle_and_resizes_when_a_size_is_given(tmp_path):
    pixels = image(tmp_path / "data" / "a" / "wide.png", size=(24, 8))
    image(tmp_path / "data" / "b" / "0.png", size=(9, 5))
    found = open_stored(datasets.image_folder(str(tmp_path / "data"), image_size=4).train.inputs, tmp_path, quiet)
    assert found.shape == (2, 4, 4, 3)
    shrunk = np.asarray(Image.fromarray(pixels).resize((12, 4), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(found[0] - shrunk[:, 4:8]).max() <= 1
    tall = open_stored(datasets.image_folder(str(tmp_path / "data"), image_size=[6, 3]).train.inputs, tmp_path, quiet)
    assert tall.shape == (2, 6, 3, 3)


def test_decode_keeps_the_range_of_16_bit_images(tmp_path):
    values = np.array([[0, 256, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    assert image_files.decode(str(tmp_path / "deep.png"), None, 1)[..., 0].tolist() == [[0, 1, 255]]


def test_decode_turns_a_photo_upright(tmp_path):
    pixels = np.zeros((2, 4, 3), dtype=np.uint8)
    pixels[:, 0] = 255
    picture = Image.fromarray(pixels)
    exif = picture.getexif()
    exif[0x0112] = 6  # orientation: to be turned clockwise by 90 degrees
    picture.save(tmp_path / "photo.png", exif=exif)
    upright = image_files.decode(str(tmp_path / "photo.png"), None, 3)
    assert upright.shape == (4, 2, 3)
    assert upright[0].min() == 255 and upright[1:].max() == 0


def test_a_changed_image_is_noticed(tmp_path):
    folder(tmp_path / "data")
    before = datasets.image_folder(str(tmp_path / "data")).train.inputs
    open_stored(before, tmp_path, quiet)
    changed = image(tmp_path / "data" / "cat" / "1.png", seed=99)
    os.utime(tmp_path / "data" / "cat" / "1.png", ns=(1, 1))
    after = datasets.image_folder(str(tmp_path / "data")).train.inputs
    assert cache_path(before, tmp_path) != cache_path(after, tmp_path)
    assert np.array_equal(open_stored(after, tmp_path, quiet)[1], changed)


def test_decoding_reports_its_progress(tmp_path, monkeypatch):
    monkeypatch.setattr(image_files, "CHUNK", 2)
    folder(tmp_path / "data", count=4)
    heard = []
    open_stored(datasets.image_folder(str(tmp_path / "data")).train.inputs, tmp_path, lambda *news: heard.append(news))
    assert [share for share, words in heard if words == "decoding 8 images"] == [0.25, 0.5, 0.75, 1.0]
    assert [share for share, _ in heard] == sorted(share for share, _ in heard)


def test_unreadable_images_are_named_all_at_once(tmp_path):
    folder(tmp_path / "data", count=3)
    (tmp_path / "data" / "cat" / "1.png").write_bytes(b"no image")
    whole = (tmp_path / "data" / "dog" / "2.png").read_bytes()
    (tmp_path / "data" / "dog" / "2.png").write_bytes(whole[: len(whole) // 2])
    stored = datasets.image_folder(str(tmp_path / "data")).train.inputs
    with pytest.raises(InputError, match=r"not a readable image") as error:
        open_stored(stored, tmp_path, quiet)
    assert error.value.message.count("not a readable image") == 2
    assert "cat/1.png" in error.value.message and "dog/2.png" in error.value.message
    assert not list(tmp_path.rglob("*.npy")) and not list(tmp_path.rglob("*.tmp"))


def test_images_of_different_sizes_are_named_when_no_size_is_given(tmp_path):
    folder(tmp_path / "data")
    image(tmp_path / "data" / "dog" / "1.png", size=(5, 4))
    with pytest.raises(InputError, match=r"dog/1.png is 5x4 pixels, but .*cat/0.png is 6x4") as error:
        open_stored(datasets.image_folder(str(tmp_path / "data")).train.inputs, tmp_path, quiet)
    assert "data.image_size" in error.value.hint


def test_image_folder_says_what_is_wrong_with_the_folder(tmp_path):
    with pytest.raises(InputError, match=r"data.root: no such folder: .*nowhere"):
        datasets.image_folder(str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match=r"no class folder in it"):
        datasets.image_folder(str(tmp_path))
    folder(tmp_path, classes=("cat",))
    with pytest.raises(InputError, match=r"only one class folder .'cat'."):
        datasets.image_folder(str(tmp_path))
    (tmp_path / "dog").mkdir()
    with pytest.raises(InputError, match=r"no image in class folder .*dog"):
        datasets.image_folder(str(tmp_path))


def test_image_folder_says_which_classes_differ_between_splits(tmp_path):
    folder(tmp_path / "train", classes=("cat", "dog", "emu"))
    folder(tmp_path / "val", classes=("cat", "dog", "fox"))
    with pytest.raises(InputError, match=r"classes differ between train and val: val lacks emu; train lacks fox"):
        datasets.image_folder(str(tmp_path))


def test_image_folder_says_so_when_split_folders_are_misnamed_or_train_is_missing(tmp_path):
    folder(tmp_path / "val")
    with pytest.raises(InputError, match=r"holds val but no train folder"):
        datasets.image_folder(str(tmp_path))
    folder(tmp_path / "train")
    (tmp_path / "val").rename(tmp_path / "valid")
    with pytest.raises(InputError, match=r"valid would not be read") as error:
        datasets.image_folder(str(tmp_path))
    assert "'val'" in error.value.hint


@pytest.mark.parametrize("value", [0, -3, "big", 2.5, [4], [4, 0], True])
def test_image_size_must_be_whole_and_positive(tmp_path, value):
    with pytest.raises(UsageError, match=r"data.image_size: must be a whole number above 0"):
        datasets.image_folder(str(tmp_path), image_size=value)


def test_channels_must_be_one_or_three(tmp_path):
    with pytest.raises(UsageError, match=r"data.channels: must be 1 \(grey\) or 3 \(RGB\) \(got 2\)"):
        datasets.image_folder(str(tmp_path), channels=2)


# --- npz -----------------------------------------------------------------------------------------------------


def test_npz_reads_pairs_and_their_splits(tmp_path):
    x = np.arange(12.0).reshape(6, 2)
    np.savez(tmp_path / "a.npz", x_train=x, y_train=np.arange(6), x_test=x[:2], y_test=np.arange(2))
    loaded = datasets.npz(str(tmp_path / "a.npz"))
    assert np.array_equal(loaded.train.inputs, x) and loaded.train.targets.tolist() == list(range(6))
    assert loaded.val is None and loaded.test.targets.tolist() == [0, 1]
    assert not loaded.images and loaded.train.place(3) == "a.npz train[3]"


@pytest.mark.parametrize("kind", [">f8", ">i2", np.longdouble])
def test_npz_of_another_machine_or_width_is_made_native(tmp_path, kind):
    x = np.arange(12).reshape(6, 2)
    np.savez(tmp_path / "a.npz", x=x.astype(kind), y=np.arange(6).astype(">i4"))
    loaded = datasets.npz(str(tmp_path / "a.npz"))
    assert np.array_equal(loaded.train.inputs, x) and loaded.train.targets.tolist() == list(range(6))
    assert loaded.train.inputs.dtype.isnative and loaded.train.inputs.dtype.itemsize <= 8


@pytest.mark.parametrize("shape", [(5, 3, 8, 9), (5, 8, 9, 3)])
def test_npz_finds_the_channels_of_images(tmp_path, shape):
    values = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    np.savez(tmp_path / "a.npz", inputs=values, targets=np.arange(5))
    loaded = datasets.npz(str(tmp_path / "a.npz"))
    wanted = values if shape[-1] == 3 else np.moveaxis(values, 1, -1)
    assert loaded.images and np.array_equal(loaded.train.inputs, wanted)


def test_npz_numbers_classes_that_are_texts(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros((3, 2)), y=np.array(["dog", "cat", "dog"]))
    loaded = datasets.npz(str(tmp_path / "a.npz"))
    assert loaded.train.targets.tolist() == [1, 0, 1] and loaded.class_names == ("cat", "dog")


@pytest.mark.parametrize(
    ("shape", "kept"),
    [((40, 3, 5, 6), lambda x: x.transpose(0, 2, 3, 1)), ((40, 7), lambda x: x), ((40, 5, 6), lambda x: x[..., None])],
)
def test_npz_keeps_large_inputs_unpacked_and_notices_a_new_file(tmp_path, monkeypatch, shape, kept):
    monkeypatch.setattr(datasets, "UNPACKED_BYTES", 1)
    values = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)
    file, cache = tmp_path / "a.npz", tmp_path / "cache"
    np.savez_compressed(file, x=values, y=np.arange(40))
    first = open_stored(datasets.npz(str(file)).train.inputs, cache, lambda *_: None)
    assert isinstance(first, np.memmap) and np.array_equal(first, kept(values))
    np.savez_compressed(file, x=values[::-1], y=np.arange(40))
    os.utime(file, ns=(1, 1))
    assert np.array_equal(open_stored(datasets.npz(str(file)).train.inputs, cache, lambda *_: None), kept(values)[::-1])


def test_npz_is_refused_when_a_large_array_is_torn(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "UNPACKED_BYTES", 1)
    np.savez(tmp_path / "a.npz", x=np.ones((500, 4)), y=np.arange(500))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[5_000] ^= 255
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(InputError, match=r"a.npz: not a readable .npz archive \(Bad CRC-32"):
        open_stored(datasets.npz(str(tmp_path / "a.npz")).train.inputs, tmp_path, lambda *_: None)


def test_npz_says_what_is_wrong(tmp_path):
    with pytest.raises(InputError, match=r"data.path: no such file: .*gone.npz"):
        datasets.npz(str(tmp_path / "gone.npz"))
    (tmp_path / "torn.npz").write_bytes(b"PK no archive")
    with pytest.raises(InputError, match=r"not a readable .npz archive"):
        datasets.npz(str(tmp_path / "torn.npz"))
    np.savez(tmp_path / "names.npz", features=np.zeros(3), labels=np.zeros(3))
    with pytest.raises(UsageError, match=r"no inputs and targets .it holds: features, labels."):
        datasets.npz(str(tmp_path / "names.npz"))
    np.savez(tmp_path / "pickle.npz", x=np.array([{}]), y=np.zeros(1))
    with pytest.raises(InputError, match=r"not a readable .npz archive .*pickle"):
        datasets.npz(str(tmp_path / "pickle.npz"))


def test_every_function_of_the_module_is_a_source():
    known = {"digits", "mnist", "fashion_mnist", "cifar10", "cifar100", "image_folder", "table", "npz"}
    assert set(registry.built_ins("source")) == known

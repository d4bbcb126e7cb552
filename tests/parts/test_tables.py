"""The table source, from a file to numbers."""

import numpy as np
import pandas
import pytest

from tuner.core.errors import EnvironmentProblem, InputError, UsageError
from tuner.core.trial import TrialEnv
from tuner.parts.datasets import table
from tuner.recipe.model import Recipe
from tuner.train.data import load_data

TEXT = "age,colour,ok,size,kind\n1.5,red,True,3,dog\n,blue,False,4,cat\n2.5,,True,3,dog\n"


def written(tmp_path, text: str = TEXT, name: str = "a.csv") -> str:
    path = tmp_path / name
    path.write_text(text)
    return str(path)


def test_table_gives_numbers_as_they_are_and_text_one_hot(tmp_path):
    loaded = table(written(tmp_path), "kind")
    assert loaded.feature_names == ("age", "colour=(missing)", "colour=blue", "colour=red", "ok", "size")
    wanted = [[1.5, 0, 0, 1, 1, 3], [np.nan, 0, 1, 0, 0, 4], [2.5, 1, 0, 0, 1, 3]]
    assert np.array_equal(loaded.train.inputs, np.array(wanted, dtype=np.float32), equal_nan=True)
    assert loaded.train.inputs.dtype == np.float32
    assert loaded.train.targets.tolist() == [1, 0, 1] and loaded.class_names == ("cat", "dog")


def test_table_one_hot_encodes_numbers_when_they_are_declared_categorical(tmp_path):
    loaded = table(written(tmp_path), "kind", categorical=["size"], drop=["age", "colour", "ok"])
    assert loaded.feature_names == ("size=3", "size=4")
    assert loaded.train.inputs.tolist() == [[1, 0], [0, 1], [1, 0]]


@pytest.mark.parametrize(("values", "names"), [("3,7,3", ("3", "7")), ("1.0,0.0,1.0", ("0", "1"))])
def test_table_numbers_classes_that_are_numbers(tmp_path, values, names):
    text = "x,y\n" + "".join(f"0,{value}\n" for value in values.split(","))
    loaded = table(written(tmp_path, text), "y")
    assert loaded.class_names == names
    assert [loaded.class_names[label] for label in loaded.train.targets] == [v.split(".")[0] for v in values.split(",")]


def test_table_reads_parquet_as_it_reads_csv(tmp_path):
    frame = pandas.read_csv(written(tmp_path))
    frame.to_parquet(tmp_path / "a.parquet")
    from_csv, from_parquet = table(str(tmp_path / "a.csv"), "kind"), table(str(tmp_path / "a.parquet"), "kind")
    assert np.array_equal(from_csv.train.inputs, from_parquet.train.inputs, equal_nan=True)
    assert from_csv.feature_names == from_parquet.feature_names
    assert from_parquet.train.place(1) == "row 1"


def test_table_reads_other_separators(tmp_path):
    semicolons = table(written(tmp_path, "a;y\n1;p\n2;q\n"), "y", separator=";")
    tabs = table(written(tmp_path, "a\ty\n1\tp\n2\tq\n", "a.tsv"), "y")
    assert semicolons.train.inputs.tolist() == tabs.train.inputs.tolist() == [[1], [2]]


def test_place_names_the_line_only_where_rows_and_lines_agree(tmp_path):
    assert table(written(tmp_path), "kind").train.place(1) == "row 1 (line 3)"
    folded = 'a,t,y\n1,"two\nlines",p\n2,x,q\n'
    assert table(written(tmp_path, folded), "y").train.place(1) == "row 1"


def test_missing_target_column_names_the_nearest(tmp_path):
    with pytest.raises(UsageError, match=r"data.target: .* has no column 'kinds' - did you mean 'kind'?"):
        table(written(tmp_path), "kinds")


def test_unknown_columns_are_named_all_at_once(tmp_path):
    with pytest.raises(UsageError) as error:
        table(written(tmp_path), "kind", categorical=["colur"], drop=["agee", "kind"])
    for text in ("data.categorical", "'colour'", "data.drop", "'age'", "'kind' is the target"):
        assert text in error.value.message
    with pytest.raises(UsageError, match=r"data.drop: must be a list of column names .got 'age'."):
        table(written(tmp_path), "kind", drop="age")


def test_missing_targets_are_named_by_row(tmp_path):
    with pytest.raises(InputError, match=r"the target 'y' is missing in row 1 \(line 3\), row 3 \(line 5\)"):
        table(written(tmp_path, "x,y\n1,a\n2,\n3,b\n4,\n"), "y")


def test_a_text_in_a_column_of_numbers_is_named(tmp_path):
    text = "x,y\n" + "".join(f"{i if i != 17 else '?'},{i % 2}\n" for i in range(30))
    with pytest.raises(UsageError, match=r"row 17 \(line 19\), column 'x': '\?' in a column of numbers"):
        table(written(tmp_path, text), "y")


def test_a_text_column_of_identifiers_is_refused_unless_declared(tmp_path):
    text = "x,id,y\n" + "".join(f"{i},name{i},{i % 2}\n" for i in range(60))
    path = written(tmp_path, text)
    with pytest.raises(UsageError, match=r"column 'id' is text with 60 different values"):
        table(path, "y")
    assert table(path, "y", drop=["id"]).train.inputs.shape == (60, 1)
    assert table(path, "y", categorical=["id"]).train.inputs.shape == (60, 61)


def test_dates_are_refused(tmp_path):
    frame = pandas.DataFrame({"when": pandas.to_datetime(["2020-01-01", "2021-01-01"]), "y": [0, 1]})
    frame.to_parquet(tmp_path / "a.parquet")
    with pytest.raises(UsageError, match=r"column 'when' holds dates"):
        table(str(tmp_path / "a.parquet"), "y")


def test_table_says_what_is_wrong_with_the_file(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"data.path: no such file: .*gone.csv"):
        table(str(tmp_path / "gone.csv"), "y")
    with pytest.raises(InputError, match=r"not a readable table"):
        table(written(tmp_path, ""), "y")
    with pytest.raises(InputError, match=r"not a readable table"):
        table(written(tmp_path, "a,b\n1,2\n1,2,3\n"), "b")
    with pytest.raises(InputError, match=r"a header but no rows"):
        table(written(tmp_path, "x,y\n"), "y")
    with pytest.raises(UsageError, match=r"no input column is left"):
        table(written(tmp_path, "x,y\n1,2\n"), "y", drop=["x"])
    with pytest.raises(UsageError, match=r"unknown kind of table"):
        table(written(tmp_path, TEXT, "a.xlsx"), "y")
    with pytest.raises(InputError, match=r"not a readable table"):
        table(written(tmp_path, "no parquet", "a.parquet"), "y")


def test_parquet_without_pyarrow_names_the_extra(tmp_path, monkeypatch):
    def missing(path):
        raise ImportError("no pyarrow")

    monkeypatch.setattr(pandas, "read_parquet", missing)
    with pytest.raises(EnvironmentProblem, match=r"reading Parquet needs pyarrow"):
        table(written(tmp_path, "x", "a.parquet"), "y")


def test_a_target_with_fractions_is_a_quantity_and_whole_numbers_are_where_the_recipe_says_so(tmp_path):
    text = "x,y\n1,0.5\n2,3.25\n"
    assert table(written(tmp_path, text), "y").train.targets.tolist() == [0.5, 3.25]
    whole = "x,y\n1,7\n2,9\n"
    assert table(written(tmp_path, whole), "y", task="regression").train.targets.tolist() == [7.0, 9.0]
    assert table(written(tmp_path, whole), "y").train.targets.tolist() == [0, 1]
    with pytest.raises(UsageError, match=r"holds real numbers \(0.5 in row 0 \(line 2\)\), and data.task is 'class"):
        table(written(tmp_path, text), "y", task="classification")
    with pytest.raises(UsageError, match="'y' holds 'a' in row 0 .*, no number"):
        table(written(tmp_path, "x,y\n1,a\n2,b\n"), "y", task="regression")


@pytest.mark.parametrize("fill", ["mean", True, float("nan"), [1]])
def test_an_unknown_way_to_fill_is_refused(tmp_path, fill):
    with pytest.raises(UsageError, match=r'data.fill: must be "median", "most_frequent" or a number \(got '):
        table(written(tmp_path), "kind", fill=fill)


def test_what_was_encoded_and_what_numbers_the_rows_is_said(tmp_path):
    rows = "".join(f"{100 + i},{(7 * i) % 30},{i * i % 13},{'ab'[i % 2]},{'pq'[i % 2]}\n" for i in range(30))
    columns = table(written(tmp_path, "number,order,price,city,y\n" + rows), "y").columns
    assert columns.one_hot == {"city": 2} and columns.identifiers == ("number", "order")


RANGES = "money,far,word,share,kind\n0,-3000,a,1,dog\n9,,b,2,cat\n999,500,a,0,dog\n"


def test_table_brings_columns_into_ranges_by_logarithm_and_tanh_and_leaves_missing_cells(tmp_path):
    asked = {"money": "log", "far": {"name": "tanh", "scale": 1000.0}}
    loaded = table(written(tmp_path, RANGES), "kind", ranges=asked, drop=["word", "share"])
    wanted = [[0.0, np.tanh(-3.0)], [np.log(10.0), np.nan], [np.log(1000.0), np.tanh(0.5)]]
    np.testing.assert_allclose(loaded.train.inputs, np.array(wanted), rtol=1e-6)


def test_a_range_in_a_file_of_the_users_is_found_beside_the_recipe(tmp_path):
    rows = "".join(f"{i},{'dog' if i % 2 else 'cat'}\n" for i in range(40))
    (tmp_path / "mine.py").write_text("def halved(values):\n    return values / 2\n")
    source = {"source": "table", "path": written(tmp_path, "far,kind\n" + rows), "target": "kind"}
    whole = {"name": "r", "data": {**source, "ranges": {"far": "mine.py:halved"}}, "model": {"name": "mlp"}}
    data = load_data(dict(Recipe.model_validate(whole).tables()), TrialEnv(tmp_path, cache_dir=tmp_path / "cache"))
    inputs = data.inputs("train", None)
    assert set((2 * inputs).flatten().tolist()) <= set(range(40)) and inputs.max() < 20


def test_a_logarithm_keeps_the_sign(tmp_path):
    found = table(written(tmp_path, RANGES), "kind", ranges={"far": {"name": "log", "scale": 100.0}}).train.inputs
    np.testing.assert_allclose(found[[0, 2], 1], [-np.log(31.0), np.log(6.0)], rtol=1e-6)


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ({"mony": "log"}, "data.ranges: .* has no column 'mony' - did you mean 'money'"),
        ({"money": "lgo"}, "data.ranges: unknown range 'lgo' - did you mean 'log'"),
        ({"money": {"name": "log", "scal": 2.0}}, "data.ranges.money.scal: log.. takes no such argument"),
        ({"money": {"name": "tanh", "scale": 0.0}}, "tanh: scale must be a number greater than 0 .got 0.0."),
        ({"word": "log"}, "column 'word' holds text or categories"),
        ({"money": 3}, "data.ranges.money: must be a name, or a table with one .got 3."),
        ("log", "data.ranges: must name a range for each column .got 'log'."),
    ],
)
def test_a_range_that_fits_no_column_is_refused(tmp_path, ranges, message):
    with pytest.raises(UsageError, match=message):
        table(written(tmp_path, RANGES), "kind", ranges=ranges)


def test_a_column_of_weights_is_no_input(tmp_path):
    loaded = table(written(tmp_path, RANGES), "kind", weights="share")
    assert loaded.weights.tolist() == [1, 2, 0] and "share" not in loaded.feature_names


@pytest.mark.parametrize(
    ("cells", "message"),
    [("1,-2,3", "'weight' holds -2 in row 1"), ("1,,3", "'weight' holds nan"), ("0,0,0", "every weight .* is 0")],
)
def test_weights_that_are_none_are_refused(tmp_path, cells, message):
    text = "x,weight,y\n" + "".join(f"{i},{cell},{i % 2}\n" for i, cell in enumerate(cells.split(",")))
    with pytest.raises(InputError, match=message):
        table(written(tmp_path, text), "y", weights="weight")

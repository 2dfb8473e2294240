"""Operators of ai.onnx.ml that map values to values, take maps or give them; maps as feeds of sessions."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest

import tinyonnx
from tests.tinyonnx.ops.ml.running import check_against_onnxruntime, check_op_refuses, check_refused, make_model, run

F32, F64, I64 = np.float32, np.float64, np.int64
NAN = float("nan")


def strings(*values):
    return np.array(values, object)


def equal(actual, expected, dtype):
    np.testing.assert_array_equal(actual, np.array(expected, dtype), strict=True)


def tensor(values, dtype):
    array = np.array(values, dtype)
    if dtype is object:
        return onnx.helper.make_tensor("", onnx.TensorProto.STRING, array.shape, array.tolist())
    return onnx.numpy_helper.from_array(array)


# -- CategoryMapper, LabelEncoder 1 -------------------------------------------------------


@pytest.mark.parametrize(
    "x", [strings("b", "a", "zz"), strings("a").reshape(1, 1), np.array([[7, 5], [1, 7]])], ids=str
)
@pytest.mark.parametrize("defaults", [{}, {"default_int64": 33, "default_string": "none"}], ids=str)
def test_category_mapper(x, defaults):
    check_against_onnxruntime("CategoryMapper", x, cats_strings=["a", "b", "a"], cats_int64s=[5, 7, 7], **defaults)


def test_category_mapper_without_categories():
    equal(run("CategoryMapper", strings("a")), [-1], I64)


def test_category_mapper_refusals():
    x = np.array([1])
    check_refused("CategoryMapper", x, cats_strings=["a"], cats_int64s=[1, 2], match="2 cats_int64s for 1 cats_strings")
    check_op_refuses(
        "CategoryMapper", x.astype(F32), cats_strings=["a"], cats_int64s=[1], match="needs strings or int64"
    )


@pytest.mark.parametrize("x", [strings("b", "a", "zz"), np.array([[1, 0], [2, -1]])], ids=str)
@pytest.mark.parametrize("defaults", [{}, {"default_int64": 33, "default_string": "none"}], ids=str)
def test_label_encoder_1(x, defaults):
    check_against_onnxruntime("LabelEncoder", x, opset=1, classes_strings=["a", "b"], **defaults)


def test_label_encoder_1_refuses_floats():
    check_op_refuses("LabelEncoder", np.zeros(2, F32), opset=1, classes_strings=["a"], match="got float32")


# -- LabelEncoder 2 and 4 -----------------------------------------------------------------

KEYS = {"floats": [1.5, -0.0, 3.0], "int64s": [4, 0, -7], "strings": ["x", "", "ü"]}
LOOKED_UP = {
    "floats": np.array([[3.0, 0.0], [7.0, 1.5]], F32),
    "int64s": np.array([[-7, 4], [1, 0]]),
    "strings": strings("ü", "x", "?", "").reshape(2, 2),
}
DEFAULTS = {"floats": {"default_float": 0.5}, "int64s": {"default_int64": 9}, "strings": {"default_string": "no"}}


@pytest.mark.parametrize("opset", [2, 4])
@pytest.mark.parametrize("keys", KEYS)
@pytest.mark.parametrize("values", KEYS)
@pytest.mark.parametrize("default", [False, True])
def test_label_encoder_of_lists(opset, keys, values, default):
    attributes = {f"keys_{keys}": KEYS[keys], f"values_{values}": KEYS[values]}
    attributes |= DEFAULTS[values] if default else {}
    check_against_onnxruntime("LabelEncoder", LOOKED_UP[keys], opset=opset, **attributes)


@pytest.mark.parametrize("keys", [F32, F64, np.int16, np.int32, I64, object])
@pytest.mark.parametrize("values", [F32, F64, np.int16, np.int32, I64, object])
def test_label_encoder_of_tensors(keys, values):
    """The results follow the specification; onnxruntime has few of these pairs."""
    k = np.array(["a", "b", "c"] if keys is object else [3, 1, 2]).astype(keys)
    v = np.array(["p", "q", "r"] if values is object else [30, 10, 20]).astype(values)
    none = strings("z")[0] if keys is object else keys(9)
    x = np.array([k[1], none, k[0]], keys)
    attributes = {"keys_tensor": tensor(k, keys), "values_tensor": tensor(v, values)}
    fallback = "_Unused" if values is object else -0.0 if v.dtype.kind == "f" else -1
    equal(run("LabelEncoder", x, opset=4, **attributes), [v[1], fallback, v[0]], values)
    attributes["default_tensor"] = tensor([v[2]], values)
    equal(run("LabelEncoder", x, opset=4, **attributes), [v[1], v[2], v[0]], values)


def test_the_default_of_float_labels_is_negative_zero():
    output = run("LabelEncoder", np.array([5]), opset=4, keys_int64s=[1], values_floats=[1.0])
    assert np.signbit(output).all()


@pytest.mark.parametrize("opset", [2, 4])
def test_nan_is_a_key(opset):
    other_nan = np.array([0xFFC00001], np.uint32).view(F32)
    x = np.concatenate([np.array([1, NAN], F32), other_nan])
    attributes = {"keys_floats": [1.0, NAN], "values_int64s": [1, 2]}
    equal(run("LabelEncoder", x, opset=opset, **attributes), [1, 2, 2], I64)
    if opset == 4:
        check_against_onnxruntime("LabelEncoder", x, opset=opset, **attributes)


def test_nan_is_no_key_by_itself():
    equal(run("LabelEncoder", np.array([NAN], F32), opset=4, keys_floats=[1.0], values_int64s=[1]), [-1], I64)


@pytest.mark.parametrize("keys", [{"keys_int64s": [1, 2, 1]}, {"keys_strings": ["1", "2", "1"]}], ids=str)
def test_the_last_of_equal_keys_counts(keys):
    x = np.array([1, 2]) if "keys_int64s" in keys else strings("1", "2")
    equal(run("LabelEncoder", x, opset=4, values_int64s=[10, 20, 30], **keys), [30, 20], I64)


def test_label_encoder_prefers_the_default_tensor():
    attributes = {"keys_int64s": [1], "values_int64s": [5], "default_int64": 6, "default_tensor": tensor([7], I64)}
    assert check_against_onnxruntime("LabelEncoder", np.array([1, 0]), opset=4, **attributes)[0].tolist() == [5, 7]


def test_label_encoder_of_nothing():
    x = np.zeros((0, 3), I64)
    assert run("LabelEncoder", x, opset=4, keys_int64s=[1], values_floats=[1.0]).shape == (0, 3)


def test_label_encoder_refusals():
    x, k, v = np.array([1]), {"keys_int64s": [1]}, {"values_int64s": [1]}
    check_refused("LabelEncoder", x, opset=2, **k, match="values must be given once, .*; got none")
    check_refused("LabelEncoder", x, opset=2, **v, match="keys must be given once, .*; got none")
    check_refused("LabelEncoder", x, opset=2, **k, **v, keys_floats=[1.0], match="got keys_floats and keys_int64s")
    check_refused("LabelEncoder", x, opset=2, keys_int64s=[1, 2], **v, match=r"keys have shape \[2\], values \[1\]")
    check_refused("LabelEncoder", x, opset=2, keys_floats=[1.0], **v, match="keys are float32, the input is int64")
    check_refused("LabelEncoder", x, opset=2, keys_strings=["a"], **v, match="keys are string, the input is int64")
    wrong = {"default_tensor": tensor([1.0], F32)}
    check_refused(
        "LabelEncoder", x, opset=4, **k, **v, **wrong, match=r"default_tensor must be one int64, is float32\[1"
    )
    wrong = {"default_tensor": tensor([1, 2], I64)}
    check_refused("LabelEncoder", x, opset=4, **k, **v, **wrong, match=r"must be one int64, is int64\[2")
    wrong = {"keys_tensor": tensor(1, I64)}
    check_refused("LabelEncoder", x, opset=4, **wrong, **v, match=r"keys have shape \[\], values \[1\]")
    wrong = {"values_tensor": tensor([1], np.int16), "default_int64": 1 << 20}
    check_refused("LabelEncoder", x, opset=4, **k, **wrong, match="default_int64 1048576 doesn't fit into int16")


# -- ZipMap -------------------------------------------------------------------------------

ROWS = np.array([[0.5, 0.2], [0.1, NAN]], F32)[:, :]


@pytest.mark.parametrize("labels", [{"classlabels_int64s": [3, -4]}, {"classlabels_strings": ["a", "b"]}], ids=str)
@pytest.mark.parametrize("x", [ROWS[:1], ROWS[0], ROWS[:0]], ids=str)
def test_zip_map(labels, x):
    (output,) = check_against_onnxruntime("ZipMap", x, **labels)
    assert all(type(v) is float for row in output for v in row.values())


def test_zip_map_refusals():
    check_refused("ZipMap", ROWS, classlabels_int64s=[3], match="needs rows of 1 numbers, one per label, got float32")
    check_refused("ZipMap", ROWS[None], classlabels_int64s=[3, 4], match=r"got float32\[1, 2, 2\]")
    check_refused("ZipMap", ROWS, match="the class labels must be given once, .*; got none")
    both = {"classlabels_int64s": [3, 4], "classlabels_strings": ["a", "b"]}
    check_refused("ZipMap", ROWS, **both, match="got classlabels_int64s and classlabels_strings")


# -- CastMap ------------------------------------------------------------------------------

NUMBERS = {3: 2.5, 1: -1.75, 0: 100000000.0, 7: 1e-7}


@pytest.mark.parametrize("cast_to", ["TO_FLOAT", "TO_STRING", "TO_INT64"])
@pytest.mark.parametrize("form", [{"map_form": "DENSE"}, {"map_form": "SPARSE", "max_map": 9}], ids=str)
def test_cast_map_of_numbers(cast_to, form):
    check_against_onnxruntime("CastMap", NUMBERS, maps="map(int64,tensor(float))", cast_to=cast_to, **form)


@pytest.mark.parametrize(
    ("cast_to", "expected"),
    [("TO_FLOAT", np.array([[3, 12.5]], F32)), ("TO_STRING", [[" 3", "12.5"]]), ("TO_INT64", np.array([[3, 12]]))],
)
def test_cast_map_of_strings(cast_to, expected):
    """onnxruntime's Python side can't be fed such maps."""
    output = run("CastMap", {5: "12.5", 2: " 3"}, maps="map(int64,tensor(string))", cast_to=cast_to)
    np.testing.assert_array_equal(output, np.asarray(expected, output.dtype), strict=True)


@pytest.mark.parametrize("value", ["float", "string"])
def test_cast_map_of_nothing(value):
    assert run("CastMap", {}, maps=f"map(int64,tensor({value}))").shape == (1, 0)
    sparse = run("CastMap", {}, maps=f"map(int64,tensor({value}))", map_form="SPARSE", max_map=2)
    equal(sparse, [[0, 0]], F32)


def test_cast_map_refusals():
    def refused(match, x=NUMBERS, maps="map(int64,tensor(float))", **attributes):
        check_refused("CastMap", x, maps=maps, match=match, **attributes)

    refused("key 7 is out of range for max_map 7", map_form="SPARSE", max_map=7)
    refused("key -1 is out of range", x={-1: 1.0}, map_form="SPARSE", max_map=7)
    refused("max_map is 0", map_form="SPARSE", max_map=0)
    refused("unknown cast_to 'TO_BOOL'", cast_to="TO_BOOL")
    refused("unknown map_form 'THICK'", map_form="THICK")
    refused(r"X can't be map\(string,tensor\(float\)\)", x={"a": 1.0}, maps="map(string,tensor(float))")
    check_op_refuses("CastMap", {"a": 1.0}, match="needs integer keys, got strings")
    refused("inf doesn't fit into int64", x={1: float("inf")}, cast_to="TO_INT64")
    refused("nan doesn't fit into int64", x={1: NAN}, cast_to="TO_INT64")
    refused("can't cast the string 'x'", x={1: "x"}, maps="map(int64,tensor(string))")
    check_op_refuses("CastMap", np.zeros(2, F32), match="needs a map, got ndarray")


def test_cast_map_is_limited():
    options = tinyonnx.SessionOptions()
    options.limits = tinyonnx.Limits(max_tensor_bytes=1 << 20)
    model = make_model("CastMap", {}, maps="map(int64,tensor(float))", map_form="SPARSE", max_map=1 << 40)
    with pytest.raises(tinyonnx.ResourceError, match="max_tensor_bytes"):
        tinyonnx.InferenceSession(model, options).run(None, {"x0": {}})


# -- DictVectorizer -----------------------------------------------------------------------


@pytest.mark.parametrize("x", [{"a": 1.0, "c": 8.5}, {"b": 2.0}, {"a": 1.0, "unseen": 3.0}], ids=str)
def test_dict_vectorizer_of_strings(x):
    check_against_onnxruntime("DictVectorizer", x, maps="map(string,tensor(float))", string_vocabulary=["c", "a", "b"])


def test_dict_vectorizer_of_integers():
    check_against_onnxruntime("DictVectorizer", {4: 1.0}, maps="map(int64,tensor(float))", int64_vocabulary=[5, 4])


@pytest.mark.parametrize(
    ("value", "dtype", "x", "missing"),
    [("double", F64, 0.1, 0), ("int64", I64, 1 << 60, 0), ("float", F32, 0.1, 0), ("string", object, "q", "")],
)
@pytest.mark.parametrize("fed", [True, False])
def test_dict_vectorizer_keeps_the_type_of_values(value, dtype, x, missing, fed):
    key = "int64" if value == "string" else "string"
    vocabulary = {"int64_vocabulary": [5, 4]} if key == "int64" else {"string_vocabulary": ["b", "a"]}
    name = 4 if key == "int64" else "a"
    output = run("DictVectorizer", {name: x} if fed else {}, maps=f"map({key},tensor({value}))", **vocabulary)
    np.testing.assert_array_equal(output, np.array([[missing, x if fed else missing]], dtype), strict=True)


def test_dict_vectorizer_refusals():
    x, maps = {"a": 1.0}, "map(string,tensor(float))"
    check_refused("DictVectorizer", x, maps=maps, match="the vocabulary must be given once, .*; got none")
    check_refused(
        "DictVectorizer",
        x,
        maps=maps,
        int64_vocabulary=[1],
        match="has int keys, the keys of the map are of another type",
    )
    check_op_refuses("DictVectorizer", np.zeros(2, F32), string_vocabulary=["a"], match="needs a map, got ndarray")


# -- sessions -----------------------------------------------------------------------------


def test_sessions_declare_maps():
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 3]>
        agraph (map(int64, float) m, float[N, 2] x) => (seq(map(string, float)) z, float[1, K] y) {
            z = ai.onnx.ml.ZipMap <classlabels_strings = ["a", "b"]> (x)
            y = ai.onnx.ml.CastMap (m)
        }
    """)
    session = tinyonnx.InferenceSession(model.SerializeToString())
    assert [(v.name, v.type, v.shape) for v in session.get_inputs()] == [
        ("m", "map(int64,tensor(float))", []),
        ("x", "tensor(float)", ["N", 2]),
    ]
    assert [(v.name, v.type) for v in session.get_outputs()] == [
        ("z", "seq(map(string,tensor(float)))"),
        ("y", "tensor(float)"),
    ]
    feeds = {"m": {2: 1, np.int64(1): np.float32(0.5)}, "x": np.array([[1, 2]], F32)}
    z, y = session.run(None, feeds)
    assert z == [{"a": 1.0, "b": 2.0}]
    equal(y, [[0.5, 1.0]], F32)
    (again,) = session.run(["y"], feeds | {"m": {1: 4.0}})
    equal(again, [[4.0]], F32)


def test_maps_pass_through():
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (map(int64, float) m, seq(map(string, int64)) s) => (map(int64, float) m, seq(map(string, int64)) s) { }
    """)
    session = tinyonnx.InferenceSession(model.SerializeToString())
    m, s = {1: 0.5}, [{"a": 1}, {}]
    assert session.run(None, {"m": m, "s": s}) == [m, s]
    assert session.run(None, {"m": {1: 0.1, 2: 1e300}, "s": []})[0] == {1: float(F32(0.1)), 2: float("inf")}


@pytest.mark.parametrize(
    ("maps", "feed", "match"),
    [
        ("map(int64,tensor(float))", [1.0], r"expects map\(int64,tensor\(float\)\), a dict, got list"),
        ("map(int64,tensor(float))", np.zeros(2, F32), "a dict, got ndarray"),
        ("map(int64,tensor(float))", {"a": 1.0}, "key must be an integer, is 'a'"),
        ("map(int64,tensor(float))", {True: 1.0}, "key must be an integer, is True"),
        ("map(int64,tensor(float))", {1 << 70: 1.0}, "too large"),
        ("map(int64,tensor(float))", {1: "a"}, "value of key 1 must be a number, is 'a'"),
        ("map(int64,tensor(float))", {1: None}, "value of key 1 must be a number, is None"),
        ("map(string,tensor(int64))", {"a": 1.5}, "value of key 'a' must be an integer, is 1.5"),
        ("map(string,tensor(int64))", {2: 1}, "key must be a string, is 2"),
        ("map(int64,tensor(string))", {2: 1}, "value of key 2 must be a string, is 1"),
    ],
)
def test_sessions_refuse_wrong_maps(maps, feed, match):
    session = tinyonnx.InferenceSession(make_model("CastMap", {}, maps=maps))
    with pytest.raises(tinyonnx.InputError, match=f'input "x0": .*{match}'):
        session.run(None, {"x0": feed})


def test_sessions_refuse_wrong_sequences_of_maps():
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (seq(map(string, int64)) s) => (seq(map(string, int64)) s) { }
    """)
    session = tinyonnx.InferenceSession(model.SerializeToString())
    with pytest.raises(tinyonnx.InputError, match=r'input "s": expects .*, a list of dicts, got dict'):
        session.run(None, {"s": {}})
    with pytest.raises(tinyonnx.InputError, match=r'input "s": expects .*, a dict, got int'):
        session.run(None, {"s": [1]})

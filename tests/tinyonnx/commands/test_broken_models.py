"""`inspect` and `trace` on models that can't run, and operators from files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import TensorProto, helper

import tinyonnx
from tests.tinyonnx.commands.test_commands import call, call_json
from tinyonnx.cli import main
from tinyonnx.tools.inspect import inspect_graph

TEXT = """
    <ir_version: 8, opset_import: ["": 17, "com.acme": 1]>
    net (float[batch, 4, t, 16] x) => (float[batch, 4, t, 16] y)
    <float[3] c = {1, 2, 3}>
    {
        before = Relu (x)
        odd = com.acme.Sparkle <k = 3> (before)
        after = Neg (odd)
        y = Exp (after)
    }
"""
OPERATORS = '''
import numpy as np
from tinyonnx import op


@op("Sparkle", domain="com.acme")
def sparkle(x, *, k: int = 1):
    """k · x"""
    return x * np.float32(k)
'''


@pytest.fixture
def unknown(tmp_path: Path) -> Path:
    path = tmp_path / "unknown.onnx"
    onnx.save(onnx.parser.parse_model(TEXT), path)
    return path


def test_an_unknown_operator_is_marked(unknown: Path, capsys: Any) -> None:
    report = call_json(capsys, "inspect", unknown)
    assert [node["op"] for node in report["nodes"]] == ["Relu", "Sparkle", "Neg", "Exp"]
    assert [bool(node["problem"]) for node in report["nodes"]] == [False, True, False, False]
    assert report["nodes"][0]["outputs"][0]["shape"] == ["batch", 4, "t", 16]
    assert report["nodes"][1]["macs"] is None
    text = call(capsys, "inspect", unknown, "--dim", "t=10")
    assert 'problem  com.acme.Sparkle "odd" (node 1): com.acme.Sparkle is not supported' in text
    assert "! com.acme.Sparkle" in text
    assert "1×4×10×16" in text


@pytest.mark.parametrize("option", ["--optimized", "--pass=specialise", "--save=out.onnx"])
def test_a_plan_needs_a_model_that_runs(unknown: Path, option: str, capsys: Any) -> None:
    assert "1 operator is not supported: com.acme.Sparkle" in call(capsys, "inspect", unknown, option, code=1)


def test_trace_shows_what_ran_before_the_error(unknown: Path, tmp_path: Path, capsys: Any) -> None:
    page = tmp_path / "page.html"
    assert main(["trace", str(unknown), "--dim", "t=10", "--html", str(page)]) == 1
    out, err = capsys.readouterr()
    assert "before  Relu" in out
    assert "odd" not in out
    assert "1 operator is not supported: com.acme.Sparkle" in err
    assert "com.acme.Sparkle" in page.read_text()
    report = call_json(capsys, "trace", unknown, "--dim", "t=10", code=1)
    assert [row["name"] for row in report["activations"]] == ["before"]
    assert "com.acme.Sparkle" in report["error"]


def test_trace_shows_what_ran_before_a_node_failed(tmp_path: Path, capsys: Any) -> None:
    proto = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["": 17]> net (float[n] x, int64[k] i) => (float[k] y) {
            two = Constant <value_float = 2.0> ()
            a = Mul (x, two)
            b = Gather (a, i)
            y = Neg (b)
        }
    """)
    onnx.save(proto, tmp_path / "m.onnx")
    np.savez(tmp_path / "in.npz", x=np.float32([1, 2]), i=np.int64([7]))
    assert main(["trace", str(tmp_path / "m.onnx"), "--inputs", str(tmp_path / "in.npz")]) == 1
    out, err = capsys.readouterr()
    # in the file's order, results that need no input last
    assert [line.split()[0] for line in out.splitlines()[1:3]] == ["a", "two"]
    assert 'Gather "b" (node 2' in err


def test_operators_from_a_file(unknown: Path, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "sparkle.py").write_text(OPERATORS.replace("com.acme", "com.acme.one"))
    proto = onnx.parser.parse_model(TEXT.replace("com.acme", "com.acme.one"))
    onnx.save(proto, tmp_path / "m.onnx")
    given = [tmp_path / "m.onnx", "--dim", "t=10", "--ops", tmp_path / "sparkle.py"]
    assert "odd" in call(capsys, "trace", *given)
    assert "y: float32[1, 4, 10, 16]" in call(capsys, "run", *given)
    assert call(capsys, "inspect", *given).count("problem") == 0
    assert "Sparkle" in call(capsys, "profile", *given, "--repeats", "1")
    assert "worst" in call(capsys, "compare", *given, "--against", "unoptimized")


@pytest.mark.parametrize(
    ("content", "cause"),
    [("x = 1\nimport nothing_of_this_name\n", "line 2"), ("def f(:\n", "line 1"), ("1 / 0", "ZeroDivisionError")],
)
def test_a_broken_file_of_operators(unknown: Path, tmp_path: Path, content: str, cause: str, capsys: Any) -> None:
    (tmp_path / "ops.py").write_text(content)
    text = call(capsys, "inspect", unknown, "--ops", tmp_path / "ops.py", code=1)
    assert cause in text
    assert len(text.splitlines()) == 1
    assert "nowhere.py: No such file" in call(capsys, "inspect", unknown, "--ops", tmp_path / "nowhere.py", code=1)


def test_external_data_that_is_gone(tmp_path: Path, capsys: Any) -> None:
    proto = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["": 17]> net (float[n, 8] x) => (float[n, m] y) { y = MatMul (x, w) }
    """)
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[8, 5], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="gone.bin")
    proto.graph.initializer.append(tensor)
    onnx.save(proto, tmp_path / "m.onnx")
    report = call_json(capsys, "inspect", tmp_path / "m.onnx")
    assert report["nodes"][0]["outputs"][0]["shape"] == ["n", 5]
    assert report["nodes"][0]["inputs"][1]["shape"] == [8, 5]
    assert "gone.bin" in report["problems"][0]
    assert report["nodes"][0]["problem"] == 'its input "w" can\'t be read'


def test_shapes_that_do_not_fit(tmp_path: Path, capsys: Any) -> None:
    proto = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["": 17]> net (float[2, 3] x) => (float[2, 7] y) <float[4] c = {1, 2, 3, 4}> {
            a = Add (x, c)
            b = Relu (x)
            y = Concat <axis = 1> (b, b)
        }
    """)
    onnx.save(proto, tmp_path / "m.onnx")
    report = call_json(capsys, "inspect", tmp_path / "m.onnx")
    assert report["nodes"][0]["problem"] == "shapes (2, 3), (4,) don't broadcast"
    assert report["cautions"] == ['Concat "y" (node 2): its result "y" has the shape [2, 6], the file declares [2, 7]']
    assert report["nodes"][2]["outputs"][0]["shape"] == [2, 6]


def test_a_graph_that_does_not_hang_together(tmp_path: Path, capsys: Any) -> None:
    nodes = [
        helper.make_node("Relu", ["b"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Add", ["x", "ghost"], ["c"]),
        helper.make_node("Conv", ["x"], ["d"], nonsense=3),
        helper.make_node("Odd", ["x"], ["e"], domain="not.imported"),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3])
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("c", "never")]
    graph = helper.make_graph(nodes, "g", [x], outputs)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    report = call_json(capsys, "inspect", tmp_path / "m.onnx")
    assert [node["op"] for node in report["nodes"]] == ["Relu", "Relu", "Add", "Conv", "Odd"]
    everything = " ".join([*report["problems"], *(node["problem"] for node in report["nodes"])])
    for cause in ("cycle", "ghost", "nonsense", "not.imported", '"never" is never produced'):
        assert cause in everything
    page = tmp_path / "page.html"
    text = call(capsys, "inspect", tmp_path / "m.onnx", "--html", page)
    assert "problem" in text
    assert "can't run" in page.read_text()


@pytest.mark.parametrize("content", [b"", b"no model at all", b"\x08\x08"])
def test_what_is_no_model_is_refused(tmp_path: Path, content: bytes, capsys: Any) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    assert len(call(capsys, "inspect", tmp_path / "m.onnx", code=1).splitlines()) == 1


@pytest.mark.parametrize(
    ("body", "shape"),
    [
        ("y = MaxPool <kernel_shape = [3], strides = [2]> (x)", ["batch", 4, "(⌊(t+1)/2⌋-1)"]),
        ("a = MaxPool <kernel_shape = [2], strides = [2]> (x) y = MaxPool <kernel_shape = [2], strides = [2]> (a)",
         ["batch", 4, "⌊t/4⌋"]),
        ("y = Concat <axis = 2> (x, x, x)", ["batch", 4, "3·t"]),
        ("s = Shape (x) y = ConstantOfShape (s)", ["batch", 4, "t"]),
        ("y = Flatten (x)", ["batch", "4·t"]),
        ("y = Transpose (x)", ["t", 4, "batch"]),
    ],
)  # fmt: skip
def test_shapes_are_expressions_of_open_dimensions(body: str, shape: list[Any]) -> None:
    proto = onnx.parser.parse_model(f"""
        <ir_version: 8, opset_import: ["": 17]> net (float[batch, 4, t] x) => (float y) {{ {body} }}
    """)
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    session = tinyonnx.InferenceSession(proto.SerializeToString())
    result = inspect_graph(session).outputs[0].shape
    assert result == shape
    # the same expression as a number, beside a run
    sizes = {"batch": 3, "t": 29}
    feeds = {"x": np.zeros((3, 4, 29), np.float32)}
    code = [str(d).translate(str.maketrans("·⌊⌋", "*()")).replace("/", "//") for d in shape]
    assert list(session.run(None, feeds)[0].shape) == [eval(text, {}, sizes) for text in code]


def test_sizes_that_decide_what_happens_are_not_shown_as_if_they_held_for_all() -> None:
    proto = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["": 17]> net (float[n] x) => (float[k] y) {
            s = Size (x)
            limit = Constant <value = int64 {1000}> ()
            small = Less (s, limit)
            y = If (small) <then_branch = a () => (float[k] p) { p = Concat <axis = 0> (x, x) },
                            else_branch = b () => (float[k] q) { q = Neg (x) }>
        }
    """)
    report = inspect_graph(tinyonnx.InferenceSession(proto.SerializeToString()))
    assert report.outputs[0].shape == ["k"]


def test_a_page_of_5000_nodes(tmp_path: Path, capsys: Any, browser: Any) -> None:
    nodes = [helper.make_node("Relu", [f"t{i}"], [f"t{i + 1}"], name=f"/model/layer.{i}/relu") for i in range(5000)]
    nodes[100].op_type, nodes[100].domain = "Sparkle", "com.acme"
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 16]) for name in ("t0", "t5000")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.acme", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets), tmp_path / "m.onnx")
    page = tmp_path / "page.html"
    call(capsys, "inspect", tmp_path / "m.onnx", "--html", page)
    browser.get(page.as_uri())
    assert browser.execute_script("return document.querySelectorAll('tbody tr').length") == 5000
    chosen = "return document.querySelector('tr[aria-selected=true]').cells[2].textContent"
    assert browser.execute_script(chosen) == "/model/layer.100/relu"  # the problem
    assert "not supported" in browser.find_element("id", "details").text
    assert browser.get_log("browser") == []

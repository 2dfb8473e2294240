"""Layouts, buffers and in-place steps, with kernels made for the test."""

from __future__ import annotations

import numpy as np
import onnx.parser
import pytest

import tinyonnx
from tests.tinyonnx.passes.conftest import data
from tinyonnx.kernels.elementwise import ADD, map_pair, map_scalar
from tinyonnx.registry import Call, fast, op, same_as
from tinyonnx.runtime.item_loops import ItemLoop
from tinyonnx.runtime.plan import KernelStep, LayoutStep, NumpyStep

DOMAIN = "test.plan"


def _kernel(name, layout, in_place=False):
    """An operator that adds one, with a kernel that checks the memory order it was promised."""

    def add_one(x, y=None):
        return x + np.float32(1) if y is None else x + y

    op(name, domain=DOMAIN, shape=same_as())(add_one)

    def promised(array):
        if layout == "channels_last":
            return array.transpose(0, 2, 3, 1).flags.c_contiguous
        return layout == "any" or array.flags.c_contiguous

    def memory(array):
        return array.ravel(order="K")

    @fast(add_one, when=lambda out, *inputs: None, layout=layout, in_place=in_place)
    def bind(pool, out, x, y=None):
        assert promised(out)
        assert promised(x)
        assert y is None or (promised(y) and y.strides == out.strides)
        if y is None:
            return Call(map_scalar, (memory(x), np.float32(1), memory(out), ADD))
        return Call(map_pair, (memory(x), memory(y), memory(out), ADD))


_kernel("Last", "channels_last")
_kernel("Rows", "row_major")
_kernel("Any", "any", in_place=True)


@op("Slow", domain=DOMAIN, shape=same_as())
def slow(x):
    return x + np.float32(1)


@op("View", domain=DOMAIN, shape=same_as())
def view(x):
    return x[...]


@op("Liar", domain=DOMAIN, shape=same_as())
def liar(x):
    return x[:1]


def session(body: str, outputs: str = "y") -> tinyonnx.InferenceSession:
    names = ", ".join(f"float[a,b,c,d] {name}" for name in outputs.split())
    text = f"""<ir_version: 8, opset_import: ["" : 17, "{DOMAIN}" : 1]>
        g (float[a,b,c,d] x) => ({names}) {{ {body.replace("@", DOMAIN + ".")} }}"""
    return tinyonnx.InferenceSession(onnx.parser.parse_model(text).SerializeToString())


X = data(2, 3, 4, 5)


@pytest.mark.parametrize(
    ("body", "added", "layout_steps"),
    [
        ("h = @Last(x) y = @Last(h)", 2, 0),
        ("h = @Last(x) i = @Any(h) y = @Last(i)", 3, 0),
        ("h = @Rows(x) i = @Any(h) y = @Rows(i)", 3, 0),
        ("h = @Last(x) y = @Rows(h)", 2, 1),
        ("h = @Rows(x) i = @Last(h) y = @Rows(i)", 3, 2),
        ("h = @Slow(x) i = @Last(h) y = @Slow(i)", 3, 0),
        ("h = @View(x) i = @Last(h) j = @View(i) k = @Last(x) y = @Last(j)", 2, 0),
    ],
)
def test_layouts_are_copied_only_where_kernels_disagree(body, added, layout_steps):
    s = session(body)
    (y,) = s.run(None, {"x": X})
    np.testing.assert_allclose(y, X + added, rtol=1e-6)
    assert y.flags.c_contiguous
    steps = s.plan_for(None, {"x": X}).steps
    assert sum(isinstance(step, LayoutStep) for step in steps) == layout_steps


def test_an_elementwise_step_brings_its_operands_into_one_layout():
    s = session("a = @Last(x) b = @Rows(x) y = @Any(a, b)")
    np.testing.assert_allclose(s.run(None, {"x": X})[0], 2 * X + 2, rtol=1e-6)


def test_in_place_only_where_the_input_dies():
    s = session("h = @Last(x) y = @Any(h)")
    step = s.plan_for(None, {"x": X}).steps[-1]
    assert isinstance(step, KernelStep)
    assert step.output.shares is step.inputs[0].root
    kept = session("h = @Last(x) y = @Any(h) z = @Last(h)", "y z")
    y, z = kept.run(None, {"x": X})
    np.testing.assert_allclose(y, X + 2, rtol=1e-6)
    np.testing.assert_allclose(z, X + 2, rtol=1e-6)
    (same,) = session("y = @Any(x)").run(None, {"x": X})
    np.testing.assert_allclose(same, X + 1, rtol=1e-6)


def test_a_view_of_the_arena_is_detached_before_it_is_overwritten():
    s = session("h = @Last(x) v = @View(h) i = @Last(h) j = @Last(i) k = @Last(j) w = @Slow(v)", "w k")
    w, k = s.run(None, {"x": X})
    np.testing.assert_allclose(w, X + 2, rtol=1e-6)
    np.testing.assert_allclose(k, X + 4, rtol=1e-6)


def test_an_operator_whose_shape_rule_lies_is_caught():
    with pytest.raises(tinyonnx.NodeError, match=r"gave f32\[1,3,4,5\] where .* was planned"):
        session("h = @Liar(x) y = @Last(h)").run(None, {"x": X})


def test_values_between_numpy_steps_are_released():
    s = session("a = @Slow(x) b = @Slow(a) c = @Slow(b) y = @Slow(c)")
    steps = s.plan_for(None, {"x": X}).steps
    released = [len(step.release) for step in steps if isinstance(step, NumpyStep)]
    assert released == [1, 1, 1, 1]
    np.testing.assert_allclose(s.run(None, {"x": X})[0], X + 4, rtol=1e-6)


@pytest.mark.parametrize("shape", [(2, 1, 4, 5), (2, 6, 1, 1)])
def test_no_copy_where_both_layouts_are_the_same_memory(shape):
    s = session("h = @Rows(x) i = @Last(h) j = @Rows(i) y = @Any(j)")
    x = data(*shape)
    np.testing.assert_allclose(s.run(None, {"x": x})[0], x + 4, rtol=1e-6)
    assert not any(isinstance(step, LayoutStep) for step in s.plan_for(None, {"x": x}).steps)


def test_steps_of_runs_are_in_the_order_of_their_items():
    plan = session("a = @Slow(x) b = @Slow(a) c = @Slow(b) d = @Slow(c) e = @Slow(d) y = @Slow(e)").plan_for(
        None, {"x": X}
    )
    whole = slice(None)
    assert plan.order == [(i, whole) for i in range(6)]
    plan.runs = [ItemLoop(1, 3, 3, 2), ItemLoop(4, 5, 2, 1)]
    first, last = slice(0, 2), slice(2, 3)
    assert plan.order == [
        *((0, whole), (1, first), (2, first), (1, last), (2, last), (3, whole)),
        *((4, slice(0, 1)), (4, slice(1, 2)), (5, whole)),
    ]


def test_the_output_of_a_step_is_the_first_that_is_read():
    step = session("h = @Rows(x) y = @Rows(h)").plan_for(None, {"x": X}).steps[0]
    assert isinstance(step, KernelStep)
    assert KernelStep(step.node, step.fast, [], [None, *step.outputs]).output is step.outputs[0]


def test_many_outputs_in_channels_last_order_keep_their_memory_to_the_end():
    body = " ".join(f"y{i} = Conv<pads = [1,1,1,1]>({f'y{i - 1}' if i else 'x'}, w)" for i in range(6))
    outputs = ", ".join(f"float[1,3,h,w] y{i}" for i in range(6))
    weights = "float[3,3,3,3] w = {" + ", ".join(f"{v:.3f}" for v in data(81) / 5) + "}"
    text = f'<ir_version: 8, opset_import: ["" : 17]> test (float[1,3,h,w] x) => ({outputs}) <{weights}> {{ {body} }}'
    model = onnx.parser.parse_model(text).SerializeToString()
    options = tinyonnx.SessionOptions()
    options.graph_optimization_level = tinyonnx.GraphOptimizationLevel.ORT_DISABLE_ALL
    session, plain = tinyonnx.InferenceSession(model), tinyonnx.InferenceSession(model, options)
    for size in (9, 12):
        x = data(1, 3, size, 8)
        for result, expected in zip(session.run(None, {"x": x}), plain.run(None, {"x": x}), strict=True):
            np.testing.assert_allclose(result, expected, atol=1e-4)


def test_a_tensor_over_the_limit_is_refused_when_planning():
    text = '<ir_version: 8, opset_import: ["" : 17]> test (float[2,5] x) => (float[n,m] y) { y = Concat<axis=0>(x, x) }'
    model = onnx.parser.parse_model(text).SerializeToString()
    for limit, refused in ((80, False), (79, True)):
        options = tinyonnx.SessionOptions()
        options.limits = tinyonnx.Limits(max_tensor_bytes=limit)
        session = tinyonnx.InferenceSession(model, options)
        if refused:
            with pytest.raises(tinyonnx.ResourceError, match="max_tensor_bytes"):
                session.plan_for(None, {"x": data(2, 5)})
        else:
            assert session.plan_for(None, {"x": data(2, 5)}).steps


def test_a_kernel_step_may_lack_an_input():
    text = """<ir_version: 8, opset_import: ["" : 17]> test (float[2,5] x) => (float[n,m] y)
        <float top = {0.5}> { y = Clip(x, "", top) }"""
    session = tinyonnx.InferenceSession(onnx.parser.parse_model(text).SerializeToString())
    (step,) = session.plan_for(None, {"x": data(2, 5)}).steps
    assert isinstance(step, KernelStep)


@pytest.mark.parametrize(
    ("node", "shapes"),
    [
        ("_, y = DynamicQuantizeLinear (a)", [(3, 5)]),
        ("_, y = LayerNormalization (a, b)", [(3, 5), (5,)]),
        ("_, y = Attention <q_num_heads = 1, kv_num_heads = 1> (a, b, b)", [(2, 3, 4), (2, 5, 4)]),
        ("_, y = com.microsoft.MultiHeadAttention <num_heads = 1> (a, b, b)", [(2, 3, 4), (2, 5, 4)]),
        ("_, _, _, y = com.microsoft.SkipLayerNormalization (a, a, b)", [(3, 5), (5,)]),
    ],
)
def test_a_first_output_that_is_absent(node: str, shapes: list[tuple[int, ...]]) -> None:
    feeds = {name: data(*shape, seed=i) for i, (name, shape) in enumerate(zip("ab", shapes))}
    inputs = ", ".join(f"float[{','.join(map(str, x.shape))}] {name}" for name, x in feeds.items())
    opsets = '["": 23, "com.microsoft": 1]'
    model = onnx.parser.parse_model(f"<ir_version: 10, opset_import: {opsets}> g ({inputs}) => (y) {{ {node} }}")
    outputs = model.graph.node[0].output
    outputs[:] = ["" if name == "_" else name for name in outputs]
    options = tinyonnx.SessionOptions()
    options.graph_optimization_level = tinyonnx.GraphOptimizationLevel.ORT_DISABLE_ALL
    content = model.SerializeToString()
    (expected,) = tinyonnx.InferenceSession(content, options).run(None, feeds)
    (result,) = tinyonnx.InferenceSession(content).run(None, feeds)
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)

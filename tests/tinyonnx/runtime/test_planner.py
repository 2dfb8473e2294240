"""Layouts, buffers and in-place steps, with kernels made for the test."""

from __future__ import annotations

import numpy as np
import onnx.parser
import pytest

import tinyonnx
from tests.tinyonnx.passes.conftest import data, floats, model_text
from tinyonnx.kernels.elementwise import ADD, map_pair, map_scalar
from tinyonnx.limits import Limits
from tinyonnx.onnxfile.load import load
from tinyonnx.passes import Rewrite
from tinyonnx.passes.specialise import specialise
from tinyonnx.registry import Call, fast, op, same_as
from tinyonnx.runtime.constants import ConstantPool
from tinyonnx.runtime.plan import KernelStep, LayoutStep, NumpyStep
from tinyonnx.runtime.planner import make_plan

DOMAIN = "test.plan"


def _kernel(name, layout, in_place=False):
    """Register an operator that adds one, with a kernel that checks the memory order of its operands."""

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


def test_an_input_that_is_absent_beside_sizes() -> None:
    """Clip of a shape stays a node if sizes are symbols; its absent input neither is constant nor has sizes."""
    text = """<ir_version: 8, opset_import: ["" : 17]> test (float[n,m] x) => (int64[2] y, float[n,m] z)
        <int64 top = {7}> { s = Shape (x) y = Clip (s, "", top) z = Neg (x) }"""
    session = tinyonnx.InferenceSession(onnx.parser.parse_model(text).SerializeToString())
    for shape in ((2, 3), (4, 9), (8, 9), (2, 8), (9, 3)):
        y, z = session.run(None, {"x": data(*shape)})
        assert y.tolist() == [min(shape[0], 7), min(shape[1], 7)]
        assert z.shape == shape


def test_steps_of_data_run_again_beside_steps_of_sizes() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17, "test.plan" : 1]>
        test (float[n,m] x) => (int64[2] y, float[n,m] z, float[n,m] w) {
            s = Shape (x) y = Mod (s, s) z = test.plan.Slow (x) w = Add (z, x) }"""
    session = tinyonnx.InferenceSession(onnx.parser.parse_model(text).SerializeToString())
    for seed, shape in enumerate(((2, 3), (4, 9), (4, 9), (8, 9), (8, 9), (2, 3))):
        x = data(*shape, seed=seed)
        y, z, w = session.run(None, {"x": x})
        assert y.tolist() == [0, 0]
        np.testing.assert_allclose(z, x + 1, rtol=1e-6)
        np.testing.assert_allclose(w, 2 * x + 1, rtol=1e-6)


def loop(carried: str, results: str, nodes: str) -> tinyonnx.InferenceSession:
    """A Loop of three iterations over `a` and `b`; its body may capture the outer graph's `k`, a kernel's result."""
    text = f"""<ir_version: 8, opset_import: ["" : 17]> test (float[2] x, float[3] z) => (float[p] y, float[q] w)
        <int64 three = {{3}}> {{
            k = Mul (x, x)
            y, w = Loop (three, "", x, z) <body = b (int64 i, bool going, {carried}) => (bool going, {results})
                {{ {nodes} }}>
        }}"""
    return tinyonnx.InferenceSession(onnx.parser.parse_model(text).SerializeToString())


def test_a_body_reads_the_buffer_of_a_kernel_outside() -> None:
    x, z = data(2), data(3)
    session = loop("float[2] a, float[3] b", "float[2] c, float[3] d", "c = Add (a, k) d = Neg (b)")
    for x in (data(2), data(2, seed=1)):
        y, w = session.run(None, {"x": x, "z": z})
        np.testing.assert_allclose(y, x + 3 * x * x, rtol=1e-6)
        np.testing.assert_array_equal(w, -z)


def test_a_body_with_an_input_of_unknown_shape_has_no_results_in_memory() -> None:
    """The second carried value has three elements at first, and two later."""
    x, z = data(2), data(3)
    session = loop("float[2] a, float[n] b", "float[2] c, float[2] c", "c = Add (a, k)")
    y, w = session.run(None, {"x": x, "z": z})
    np.testing.assert_allclose(y, x + 3 * x * x, rtol=1e-6)
    np.testing.assert_array_equal(w, y)
    (_, step) = session.plan_for(None, {"x": x, "z": z}).steps
    assert isinstance(step, NumpyStep)
    assert [body.results for body in step.subplans.values()] == [None]


def test_a_body_within_a_body_reads_the_buffer_of_a_kernel_outside() -> None:
    inner = """c, e = Loop (two, "", a, b) <body = inner (int64 j, bool on, float[2] f, float[3] g)
        => (bool on, float[2] f2, float[3] g2) { f2 = Add (f, k) g2 = Neg (g) }>"""
    session = loop("float[2] a, float[3] b", "float[2] c, float[3] e", f"two = Constant <value_int = 2> () {inner}")
    x, z = data(2), data(3)
    y, w = session.run(None, {"x": x, "z": z})
    np.testing.assert_allclose(y, x + 6 * x * x, rtol=1e-5)
    np.testing.assert_array_equal(w, z)


def test_bodies_are_placed_within_the_regions_of_their_steps() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]> test (float[2] a, float[999] x) => (float[2] y, float[999] z)
        <int64 three = {3}> {
            k = Neg (x)
            y = Loop (three, "", a) <body = b (int64 i, bool going, float[2] u) => (bool going, float[2] v)
                { m = Mul (u, u) v = Add (m, u) }>
            z = Neg (k)
        }"""
    made = tinyonnx.InferenceSession(onnx.parser.parse_model(text).SerializeToString())
    plan = made.plan_for(None, {"a": data(2), "x": data(999)})
    (step,) = plan.numpy_steps
    assert step.region is not None
    start, end = step.region.offset, step.region.offset + step.region.nbytes
    assert start > 0
    (body,) = step.subplans.values()
    own = [buffer for buffer in body.all_buffers if buffer.shares is None]
    assert own
    assert all(start <= buffer.offset <= buffer.offset + buffer.nbytes <= end for buffer in own)


def test_the_status_lies_before_all_buffers() -> None:
    """It exists where a kernel may find invalid data, such as an index."""
    text = """<ir_version: 8, opset_import: ["" : 17]> test (float[5] x, int64[3] i) => (float[n] y) {
        r = Relu (x) g = Gather (r, i) y = Neg (g) }"""
    checked = tinyonnx.InferenceSession(onnx.parser.parse_model(text).SerializeToString())
    plan = checked.plan_for(None, {"x": data(5), "i": np.array([0, 4, 2])})
    assert plan.status is not None
    assert (plan.status.offset, plan.status.nbytes, plan.status.start, plan.status.end) == (0, 8, 0, 0)
    own = [buffer for buffer in plan.all_buffers if buffer.shares is None]
    assert all(8 <= b.offset <= b.offset + b.nbytes <= plan.arena_bytes for b in own)
    assert session("y = @Rows(x)").plan_for(None, {"x": X}).status is None


def test_a_value_is_copied_into_another_order_once() -> None:
    s = session("h = @Last(x) a = @Rows(h) b = @Rows(h) c = @Rows(a) y = @Rows(c, b)")
    np.testing.assert_allclose(s.run(None, {"x": X})[0], 2 * X + 5, rtol=1e-6)
    assert sum(isinstance(step, LayoutStep) for step in s.plan_for(None, {"x": X}).steps) == 1


def test_what_numpy_wrote_is_kept_until_a_kernel_reads_it() -> None:
    s = session("w = @Slow(x) h = @Last(x) i = @Last(h) j = @Last(i) k = @Last(j) y = @Last(k, w)")
    np.testing.assert_allclose(s.run(None, {"x": X})[0], 2 * X + 5, rtol=1e-6)


def test_outputs_that_nothing_reads_keep_no_kernel_away() -> None:
    for outputs, kernel in (("y, i", True), ('y, ""', True), ("y, z", False)):
        text = f"""<ir_version: 8, opset_import: ["" : 17]> test (float[1,1,h] x) => (float[1,1,n] y{
            ", int64[1,1,n] z" if "z" in outputs else ""
        }) {{ {outputs} = MaxPool <kernel_shape = [2]> (x) }}"""
        session = tinyonnx.InferenceSession(onnx.parser.parse_model(text).SerializeToString())
        (step,) = session.plan_for(None, {"x": data(1, 1, 5)}).steps
        assert isinstance(step, KernelStep) == kernel
        assert kernel or step.why == "a second output is read"


def test_why_a_node_has_no_kernel() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
        test (float[n] x, float[k] e, float[1] one) => (int64[1,m] i, float[k] o, c, d) {
            i = NonZero (x) j = Cast <to = 1> (i) c = Neg (j) o = Neg (e) d = Add (one, c) }"""
    session = tinyonnx.InferenceSession(onnx.parser.parse_model(text).SerializeToString())
    steps = session.plan_for(None, {"x": data(3), "e": data(0), "one": data(1)}).steps
    why = {step.node.output.name: step.why for step in steps if isinstance(step, NumpyStep)}
    assert why["c"] == why["d"] == why["j"] == "shapes depend on data"
    assert why["o"] == "a tensor is empty"


def test_results_of_sizes_stay_in_memory_through_all_runs() -> None:
    """Their steps run once for each size, and kernels read them in later runs, too."""
    text = """<ir_version: 8, opset_import: ["" : 17]> test (float[n,2] x) => (float[n,2] y) <int64 seven = {7}> {
        s = Shape (x) r = Mod (s, seven) f = Cast <to = 1> (r)
        a = Neg (x) b = Mul (a, a) c = Exp (b) d = Add (c, f) e = Mul (d, d) g = Sqrt (e) y = Add (g, a) }"""
    session = tinyonnx.InferenceSession(onnx.parser.parse_model(text).SerializeToString())
    for seed, n in enumerate((3, 4, 5, 5, 5, 3, 9, 9)):
        x = data(n, 2, seed=seed)
        expected = np.exp(x * x) + np.float32([n % 7, 2]) - x
        np.testing.assert_allclose(session.run(None, {"x": x})[0], expected, rtol=1e-5, atol=1e-6)


def test_compiled_steps_have_their_function() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]> test (float[1,3,4] b, float[1,1,3] s) => (int64[n,3] y) {
        y = NonMaxSuppression (b, s) }"""
    boxes = tinyonnx.InferenceSession(onnx.parser.parse_model(text).SerializeToString())
    (step,) = boxes.plan_for(None, {"b": data(1, 3, 4), "s": data(1, 1, 3)}).numpy_steps
    assert step.compiled is not None
    (other,) = session("y = @Slow(x)").plan_for(None, {"x": X}).numpy_steps
    assert other.compiled is None


def test_a_smaller_input_is_not_overwritten_by_the_output() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]> test (float[n,1] x, float[n,m] z) => (float[n,m] y) {
        h = Neg (x) y = Add (h, z) }"""
    session = tinyonnx.InferenceSession(onnx.parser.parse_model(text).SerializeToString())
    x, z = data(3, 1), data(3, 400, seed=1)
    step = session.plan_for(None, {"x": x, "z": z}).steps[-1]
    assert isinstance(step, KernelStep)
    assert step.output.shares is None
    np.testing.assert_allclose(session.run(None, {"x": x, "z": z})[0], z - x, rtol=1e-6)


def test_batches_are_gone_through_by_item_unless_they_must_not() -> None:
    weights = ", ".join(floats(name, 8, inputs, 3, 3) for name, inputs in (("v", 3), ("w", 8)))
    body = "h = Conv <pads = [1,1,1,1]> (x, v) y = Conv <pads = [1,1,1,1]> (h, w)"
    text = model_text(body, "float[40,3,40,40] x", "float[n,8,h,w_] y", weights)
    graph = load(onnx.parser.parse_model(text).SerializeToString())
    specialise(Rewrite(graph, ConstantPool(), Limits(), "test", []))
    for by_item in (True, False):
        plan = make_plan(graph, model="test", limits=Limits(), pool=ConstantPool(), by_item=by_item)
        assert len(plan.runs) == by_item

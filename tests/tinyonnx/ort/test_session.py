from __future__ import annotations

import os
import signal
import threading

import numpy as np
import onnx
import onnx.parser
import pytest

import tinyonnx
from tests.tinyonnx.passes.conftest import data, floats, model_text
from tinyonnx.codegen.kernel import DISABLED
from tinyonnx.ort.session import PLANS_KEPT
from tinyonnx.runtime.plan import KernelStep, NumpyStep
from tinyonnx.runtime.threads import available


def session(text: str, **options: object) -> tinyonnx.InferenceSession:
    settings = tinyonnx.SessionOptions()
    for name, value in options.items():
        setattr(settings, name, value)
    return tinyonnx.InferenceSession(onnx.parser.parse_model(text).SerializeToString(), settings)


CNN = model_text(
    """c = Conv<pads=[1,1,1,1]>(x, w, b)
       r = Relu(c)
       d = Conv<group=8, pads=[1,1,1,1]>(r, k)
       s = Add(d, r)
       m = GlobalAveragePool(s)
       f = Flatten(m)
       y = Gemm<transB=1>(f, g)""",
    "float[batch,3,height,width] x",
    "float[batch,5] y",
    ", ".join([floats("w", 8, 3, 3, 3), floats("b", 8), floats("k", 8, 1, 3, 3), floats("g", 5, 8)]),
)
NAMES = ["c", "r", "d", "s", "m", "f", "y"]


def test_signature_as_onnxruntime_writes_it():
    s = session(CNN)
    (x,) = s.get_inputs()
    assert (x.name, x.type, x.shape) == ("x", "tensor(float)", ["batch", 3, "height", "width"])
    (y,) = s.get_outputs()
    assert (y.name, y.type, y.shape) == ("y", "tensor(float)", ["batch", 5])
    assert s.get_providers() == ["CPUExecutionProvider"]
    assert s.get_modelmeta().graph_name == "test"


@pytest.mark.parametrize("shape", [(1, 3, 9, 7), (3, 3, 16, 16), (2, 3, 1, 1), (1, 3, 1, 40)])
def test_optimised_equals_unoptimised_equals_onnxruntime(shape):
    ort = pytest.importorskip("onnxruntime")
    oracle = ort.InferenceSession(onnx.parser.parse_model(CNN).SerializeToString())
    feeds = {"x": data(*shape)}
    (expected,) = oracle.run(None, feeds)
    level = tinyonnx.GraphOptimizationLevel.ORT_DISABLE_ALL
    for s in (session(CNN), session(CNN, graph_optimization_level=level)):
        (actual,) = s.run(None, feeds)
        np.testing.assert_allclose(actual, expected, atol=2e-5)


def test_every_intermediate_tensor_by_name():
    s = session(CNN)
    plain = session(CNN, graph_optimization_level=tinyonnx.GraphOptimizationLevel.ORT_DISABLE_ALL)
    feeds = {"x": data(2, 3, 8, 6)}
    everything = plain.run(NAMES, feeds)
    for name, expected in zip(NAMES, everything, strict=True):
        (alone,) = s.run([name], feeds)
        np.testing.assert_allclose(alone, expected, atol=2e-5)
    for actual, expected in zip(s.run(NAMES, feeds), everything, strict=True):
        np.testing.assert_allclose(actual, expected, atol=2e-5)
    x, w = s.run(["x", "w"], feeds)
    np.testing.assert_array_equal(x, feeds["x"])
    assert w.shape == (8, 3, 3, 3)


def test_results_own_their_memory():
    s = session(CNN)
    feeds = {"x": data(1, 3, 8, 6)}
    first = s.run(["x", "w", "r", "y"], feeds)
    kept = [a.copy() for a in first]
    for array in first:
        array[...] = 0
    again = s.run(["x", "w", "r", "y"], feeds)
    s.run(["x", "w", "r", "y"], {"x": data(1, 3, 8, 6, seed=1)})
    for a, b in zip(again, kept, strict=True):
        np.testing.assert_array_equal(a, b)


def test_constants_of_a_branch_and_repeated_outputs_own_their_memory():
    body = """y = If (c) <then_branch = yes () => (float b) { b = Constant<value_float=1.0>() },
                         else_branch = no () => (float d) { d = Constant<value_float=2.0>() }>
              z = Neg(x)"""
    s = session(model_text(body, "bool c, float[2] x", "float y, float[2] z"))
    feeds = {"c": np.array(True), "x": data(2)}
    y, z, again = s.run(["y", "z", "z"], feeds)
    y[...], z[...] = 99, 99
    np.testing.assert_array_equal(again, -feeds["x"])
    assert s.run(["y"], feeds) == [1]


def test_the_plan_uses_kernels_and_one_arena():
    s = session(CNN)
    plan = s.plan_for(None, {"x": data(1, 3, 32, 32)})
    assert s.plan_for(None, {"x": data(1, 3, 32, 32)}) is plan
    kernels = [step.node.op_type for step in plan.steps if isinstance(step, KernelStep)]
    assert kernels[:2] == ["FusedConv", "FusedConv"]
    assert all(step.why for step in plan.steps if isinstance(step, NumpyStep))
    assert 0 < plan.arena_bytes <= 3 * 8 * 32 * 32 * 4 + 4096


def test_concurrent_runs_do_not_disturb_each_other():
    s = session(CNN)
    inputs = [data(1, 3, 20 + i, 20, seed=i) for i in range(2) for _ in range(2)]
    expected = [s.run(None, {"x": x})[0] for x in inputs]
    wrong = []

    def work(x, y):
        for _ in range(50):
            if not np.array_equal(s.run(None, {"x": x})[0], y):
                wrong.append(x.shape)

    threads = [threading.Thread(target=work, args=pair) for pair in zip(inputs, expected, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_an_unknown_tensor_is_named():
    with pytest.raises(tinyonnx.InputError, match="no tensor is called 'nope'"):
        session(CNN).run(["nope"], {"x": data(1, 3, 4, 4)})


def test_one_name_instead_of_a_list_is_refused():
    with pytest.raises(tinyonnx.InputError, match="must be a list, not 'y'"):
        session(CNN).run("y", {"x": data(1, 3, 4, 4)})


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_a_model_from_memory(kind):
    content = onnx.parser.parse_model(CNN).SerializeToString()
    s = tinyonnx.InferenceSession(kind(content))
    assert s.run(None, {"x": data(1, 3, 4, 4)})[0].shape == (1, 5)


def test_a_failing_node_says_everything():
    text = model_text("m = Relu(x) y = MatMul(m, w)", "float[a,b] x", "float[n,c] y", floats("w", 4, 5))
    with pytest.raises(tinyonnx.NodeError) as caught:
        session(text).run(None, {"x": data(2, 3)})
    message = str(caught.value)
    assert 'MatMul "y" (node 1, opset 17)' in message
    assert "inputs f32[2,3], f32[4,5]" in message


def test_control_flow_with_captured_values():
    ort = pytest.importorskip("onnxruntime")
    body = """
        c = Conv(x, w)
        total = Loop (n, yes, c) <body = step (int64 i, bool go, float[a,b,h,k] acc)
            => (bool again, float[a,b,h,k] out, float[a,b,h,k] seen)
            { out = Add(acc, c) again = Identity(go) seen = Mul(out, c) }>
        """.replace("total =", "total, steps =")
    text = model_text(
        body + " y = Relu(total)",
        "float[1,2,3,3] x, int64 n",
        "float[a,b,h,k] y, float[t,a,b,h,k] steps",
        f"{floats('w', 2, 2, 1, 1)}, bool yes = {{1}}",
    )
    feeds = {"x": data(1, 2, 3, 3), "n": np.array(3)}
    expected = ort.InferenceSession(onnx.parser.parse_model(text).SerializeToString()).run(None, feeds)
    for actual, wanted in zip(session(text).run(None, feeds), expected, strict=True):
        np.testing.assert_allclose(actual, wanted, atol=1e-5)


def test_limits_stop_a_memory_bomb_and_an_endless_loop():
    bomb = model_text("y = ConstantOfShape(s)", "int64[2] s", "float[n,c] y")
    with pytest.raises(tinyonnx.ResourceError, match="max_tensor_bytes"):
        session(bomb).run(None, {"s": np.array([1 << 20, 1 << 20])})
    body = """y = Loop (none, yes, x) <body = step (int64 i, bool go, float[n] acc)
        => (bool again, float[n] out) { again = Identity(go) out = Identity(acc) }>"""
    loop = model_text(body, "float[1] x, int64 none", "float[n] y", "bool yes = {1}")
    limits = tinyonnx.Limits(max_loop_iterations=1000)
    with pytest.raises(tinyonnx.ResourceError, match="max_loop_iterations"):
        session(loop, limits=limits).run(None, {"x": data(1), "none": np.array(1 << 62)})


def test_loops_within_loops_share_one_limit():
    inner = """z = Loop (ten, yes, acc) <body = inner (int64 j, bool on, float[n] a)
        => (bool b, float[n] c) { b = Identity(on) c = Neg(a) }>"""
    body = f"""y = Loop (ten, yes, x) <body = outer (int64 i, bool go, float[n] acc)
        => (bool again, float[n] z) {{ again = Identity(go) {inner} }}>"""
    text = model_text(body, "float[1] x", "float[n] y", "bool yes = {1}, int64 ten = {10}")
    feeds = {"x": data(1)}
    np.testing.assert_array_equal(
        session(text, limits=tinyonnx.Limits(max_loop_iterations=110)).run(None, feeds), [feeds["x"]]
    )
    with pytest.raises(tinyonnx.ResourceError, match="more than 109 iterations in one run"):
        session(text, limits=tinyonnx.Limits(max_loop_iterations=109)).run(None, feeds)


def test_limits_hold_where_shapes_depend_on_data():
    text = model_text("a = NonZero(x) b = Transpose(a) y = Add(a, b)", "float[n] x", "int64[n,m] y")
    s = session(text, limits=tinyonnx.Limits(max_tensor_bytes=8 * 50 * 50))
    assert s.run(None, {"x": np.ones(50, np.float32)})[0].shape == (50, 50)
    with pytest.raises(tinyonnx.ResourceError, match=r'Add "y" .*i64\[51,51\] takes 20808 bytes'):
        s.run(None, {"x": np.ones(51, np.float32)})


def test_a_run_of_kernels_alone_ends_in_time():
    s = session(CNN, limits=tinyonnx.Limits(max_seconds=1e-9))
    with pytest.raises(tinyonnx.ResourceError, match="max_seconds"):
        s.run(None, {"x": data(1, 3, 8, 6)})


@pytest.mark.parametrize(("wanted", "threads"), [(1, 1), (0, available()), (-1, available()), (10**6, available())])
def test_threads_of_a_plan(wanted, threads):
    assert session(CNN, intra_op_num_threads=wanted).plan_for(None, {"x": data(1, 3, 4, 4)}).threads == threads


def test_the_latest_plans_are_kept():
    s = session(CNN)
    feeds = [{"x": data(1, 3, 4, size)} for size in range(4, 5 + PLANS_KEPT)]
    first, second = (s.plan_for(None, feed) for feed in feeds[:2])
    for feed in feeds[2:PLANS_KEPT]:
        s.plan_for(None, feed)
    assert s.plan_for(None, feeds[0]) is first
    s.plan_for(None, feeds[PLANS_KEPT])
    assert s.plan_for(None, feeds[0]) is first
    assert s.plan_for(None, feeds[1]) is not second


def test_inputs_of_any_rank_and_outputs_of_any_type():
    x = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, None)
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Neg", ["x"], ["y"])], "g", [x], [onnx.ValueInfoProto(name="y")]
    )
    s = tinyonnx.InferenceSession(onnx.helper.make_model(graph).SerializeToString())
    assert (s.get_outputs()[0].type, s.get_outputs()[0].shape) == ("tensor(float)", [])
    for shape in ((3,), (4,), (5,), (2, 3), (3, 2), (1, 2, 3), ()):
        np.testing.assert_array_equal(s.run(None, {"x": data(*shape)})[0], -data(*shape))


def test_remarks_in_the_log_name_the_file(tmp_path, caplog):
    onnx.save(onnx.parser.parse_model(CNN), tmp_path / "net.onnx")
    with caplog.at_level("DEBUG", "tinyonnx.passes"):
        tinyonnx.InferenceSession(tmp_path / "net.onnx").run(None, {"x": data(1, 3, 4, 4)})
    assert caplog.messages
    assert all(message.startswith("net.onnx: ") for message in caplog.messages)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_runs_although_a_thread_was_planning():
    s = session(CNN)
    s.run(None, {"x": data(1, 3, 4, 4)})
    feeds = {"x": data(1, 3, 5, 4)}  # of another size, which needs the lock
    with s._lock:  # as another thread that is planning
        child = os.fork()
        if not child:
            signal.alarm(300)  # ends the child if it waits for the lock
            s.run(None, feeds)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0


def test_a_custom_operator_in_plain_python():
    @tinyonnx.op("Twice", domain="com.example.session_test")
    def twice(x, *, times=2.0):
        return x * np.float32(times)

    text = """<ir_version: 8, opset_import: ["" : 17, "com.example.session_test" : 1]>
        test (float[n] x) => (float[n] y) { y = com.example.session_test.Twice<times=3.0>(x) }"""
    (y,) = session(text).run(None, {"x": np.array([1, 2], np.float32)})
    np.testing.assert_array_equal(y, np.array([3, 6], np.float32))


def test_trace_visits_every_node_of_the_plan():
    s = session(CNN)
    seen = [(node.op_type, outputs[0].shape) for node, outputs in s.trace({"x": data(1, 3, 8, 6)})]
    assert seen[0] == ("FusedConv", (1, 8, 8, 6))
    assert seen[-1][1] == (1, 5)


def test_messages_name_a_model_from_memory():
    with pytest.raises(tinyonnx.InputError, match=r"^<bytes>: no tensor is called 'nope'"):
        session(CNN).run(["nope"], {"x": data(1, 3, 4, 4)})


def test_a_session_says_what_it_was_given(tmp_path):
    options = tinyonnx.SessionOptions()
    onnx.save(onnx.parser.parse_model(CNN), tmp_path / "net.onnx")
    s = tinyonnx.InferenceSession(tmp_path / "net.onnx", options)
    assert s.get_session_options() is options


def test_a_session_of_a_graph_takes_options():
    graph = session(CNN)._graph.clone()
    options = tinyonnx.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = tinyonnx.GraphOptimizationLevel.ORT_DISABLE_ALL
    s = tinyonnx.InferenceSession.of_graph(graph, "made.onnx", options)
    feeds = {"x": data(1, 3, 4, 4)}
    plan = s.plan_for(None, feeds)
    assert plan.threads == 1
    assert not any(isinstance(step, KernelStep) for step in plan.steps)
    np.testing.assert_allclose(s.run(None, feeds)[0], session(CNN).run(None, feeds)[0], atol=2e-5)


def test_packed_weights_are_shared_by_the_plans_of_a_session():
    s = session(CNN)
    s.run(None, {"x": data(1, 3, 8, 8)})
    packed = dict(s._preparation._pool._derived)
    assert packed
    s.run(None, {"x": data(1, 3, 8, 9)})
    assert all(s._preparation._pool._derived[key] is array for key, array in packed.items())
    assert s._preparation._pool._derived.keys() == packed.keys()


def test_rewritten_for_the_shapes_of_the_feeds():
    feeds = {"x": data(2, 3, 8, 6)}
    rewrite = session(CNN).rewrite(feeds)
    assert rewrite.graph.inputs[0].shape == (2, 3, 8, 6)
    assert [node.op_type for node in rewrite.graph.nodes][:2] == ["FusedConv", "FusedConv"]
    assert session(CNN).rewrite(feeds, []).graph.nodes[0].op_type == "Conv"


@pytest.mark.skipif(DISABLED, reason="plans for many sizes have kernels only")
def test_many_sizes_share_a_plan():
    """The first sizes have plans of their own."""
    s, whole = session(CNN), session(CNN, graph_optimization_level=tinyonnx.GraphOptimizationLevel.ORT_DISABLE_ALL)
    for size in range(8, 8 + PLANS_KEPT):
        feeds = {"x": data(1, 3, size, 8)}
        np.testing.assert_allclose(s.run(None, feeds)[0], whole.run(None, feeds)[0], atol=2e-5)
    assert len(s._plans) < PLANS_KEPT // 2
    assert len(whole._plans) == PLANS_KEPT

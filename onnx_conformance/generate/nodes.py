"""Single operators with random shapes and attributes, by family; cases that onnxruntime refuses are left out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from onnx_conformance.generate.classical import linear_regressor, rows, trees
from onnx_conformance.generate.draws import Random, RandomNode, broadcastable, coin, dims, floats, one, optional, whole


def _window(r: Random, space: list[int], dilated: bool = False, ceil: bool = False) -> dict[str, Any]:
    """Return kernel, strides, padding and dilations that are not larger than the input.

    Where the specification and onnxruntime differ about SAME_*, with dilations or strides beyond the kernel, the
    specification counts.
    """
    rank = len(space)
    kernel = [int(whole(r, 1, min(4, n))) for n in space]
    attributes: dict[str, Any] = {"kernel_shape": kernel}
    if coin(r):
        padding = one(r, "SAME_UPPER", "SAME_LOWER", "VALID")
        steps = kernel if padding.startswith("SAME") else [3] * rank
        return attributes | {"auto_pad": padding} | optional(r, strides=[int(whole(r, 1, n)) for n in steps])
    attributes |= optional(r, strides=dims(r, rank, 1, 3), pads=[int(whole(r, 0, k - 1)) for k in kernel * 2])
    fitting = [min(2, (n - 1) // max(1, k - 1)) for n, k in zip(space, kernel)]
    return attributes | (optional(r, dilations=fitting) if dilated else {}) | (optional(r, ceil_mode=1) if ceil else {})


def conv(r: Random) -> RandomNode:
    rank, group = one(r, 1, 2, 2, 3), one(r, 1, 1, 2, 3)
    space = dims(r, rank, 3, 9)
    attributes = _window(r, space, dilated=True) | {"group": group}
    out, into = group * int(whole(r, 1, 3)), group * int(whole(r, 1, 3))
    w = floats(r, out, into // group, *attributes["kernel_shape"])
    bias = floats(r, out) if coin(r) else None
    return RandomNode("Conv", [floats(r, int(whole(r, 1, 3)), into, *space), w, bias], attributes, constants=(1, 2))


def conv_transpose(r: Random) -> RandomNode:
    rank, group = one(r, 1, 2, 2), one(r, 1, 1, 2)
    space = dims(r, rank, 2, 6)
    attributes = _window(r, space, dilated=True) | {"group": group}
    if "strides" in attributes and "auto_pad" not in attributes and coin(r):
        attributes["output_padding"] = [int(whole(r, 0, s - 1)) for s in attributes["strides"]]
    out, into = int(whole(r, 1, 3)), group * int(whole(r, 1, 3))
    w = floats(r, into, out, *attributes["kernel_shape"])
    bias = floats(r, out * group) if coin(r) else None
    return RandomNode("ConvTranspose", [floats(r, 2, into, *space), w, bias], attributes, constants=(1, 2))


def max_pool(r: Random) -> RandomNode:
    space = dims(r, one(r, 1, 2, 2, 3), 3, 9)
    attributes = _window(r, space, dilated=True, ceil=True)
    outputs = one(r, 1, 2)
    if outputs == 2:
        attributes |= optional(r, storage_order=1)
    return RandomNode("MaxPool", [floats(r, 2, 3, *space)], attributes, outputs)


def average_pool(r: Random) -> RandomNode:
    space = dims(r, one(r, 1, 2, 2, 3), 3, 9)
    attributes = _window(r, space, ceil=True) | optional(r, count_include_pad=1)
    return RandomNode("AveragePool", [floats(r, 2, 3, *space)], attributes, opset=one(r, 11, 19))


def lp_pool(r: Random) -> RandomNode:
    space = dims(r, 2, 3, 9)
    return RandomNode("LpPool", [floats(r, 2, 3, *space)], _window(r, space) | optional(r, p=one(r, 1, 2, 3)), opset=18)


def resize(r: Random) -> RandomNode:
    rank = one(r, 3, 4, 4, 5)
    mode = one(r, "nearest", "linear", "cubic") if rank == 4 else one(r, "nearest", "linear")
    space = dims(r, rank - 2, 2, 6)
    shape = [int(whole(r, 1, 2)), int(whole(r, 1, 3)), *space]
    attributes: dict[str, Any] = {"mode": mode}
    attributes |= optional(
        r,
        coordinate_transformation_mode=one(
            r, "half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel", "half_pixel_symmetric"
        ),
        antialias=int(mode != "nearest"),
    )
    if mode == "nearest":  # floor and ceil depend on rounding errors where coordinates are whole numbers
        attributes |= optional(r, nearest_mode=one(r, "round_prefer_floor", "round_prefer_ceil"))
    if mode == "cubic":
        attributes |= optional(r, cubic_coeff_a=-0.5, exclude_outside=1)
    target = [int(one(r, whole(r, 1, 11), 2 * n, 3 * n, max(1, n // 2))) for n in space]
    if coin(r):
        return RandomNode("Resize", [floats(r, *shape), None, None, np.array([*shape[:2], *target])], attributes)
    scales = np.array([1, 1, *(t / n for t, n in zip(target, space))], np.float32)
    return RandomNode("Resize", [floats(r, *shape), None, scales], attributes, constants=(2,) if coin(r) else ())


def gemm(r: Random) -> RandomNode:
    m, k, n = dims(r, 3, 1, one(r, 9, 9, 35))
    ta, tb = one(r, 0, 1), one(r, 0, 1)
    a, b = floats(r, *((k, m) if ta else (m, k))), floats(r, *((n, k) if tb else (k, n)))
    c = floats(r, *one(r, (), (1,), (n,), (1, n), (m, 1), (m, n))) if coin(r) else None
    attributes = {"transA": ta, "transB": tb} | optional(r, alpha=0.5, beta=-1.5)
    return RandomNode("Gemm", [a, b, c], attributes, constants=one(r, (), (1,), (1, 2)))


def matmul(r: Random) -> RandomNode:
    batch, (m, k, n) = dims(r, int(whole(r, 0, 2)), 1, 3), dims(r, 3, 1, one(r, 8, 8, 35))
    a = floats(r, *broadcastable(r, batch), *((k,) if r.random() < 0.2 else (m, k)))
    b = floats(r, *broadcastable(r, batch), *((k,) if r.random() < 0.2 else (k, n)))
    return RandomNode("MatMul", [a, b], constants=one(r, (), (1,)))


def reduction(r: Random) -> RandomNode:
    names = ("Sum", "Mean", "Max", "Min", "Prod", "L1", "L2", "LogSum", "LogSumExp", "SumSquare")
    rank = int(whole(r, 1, 5))
    axes = r.permutation(rank)[: whole(r, 0, rank)]
    axes = np.where(r.random(len(axes)) < 0.5, axes, axes - rank).astype(np.int64)
    name = one(r, *names)
    x = floats(r, *dims(r, rank - 1, 1, 5), int(whole(r, 1, one(r, 5, 35))))
    attributes = optional(r, keepdims=0) | optional(r, noop_with_empty_axes=1)
    given = axes if len(axes) or coin(r) else None
    return RandomNode(
        f"Reduce{name}", [np.abs(x) if name == "LogSum" else x, given], attributes, opset=18, constants=(1,)
    )


def arg(r: Random) -> RandomNode:
    rank = int(whole(r, 1, 4))
    x = whole(r, 0, 3, dims(r, rank)).astype(one(r, np.float32, np.int32))
    attributes = optional(r, axis=int(whole(r, -rank, rank - 1)), keepdims=0, select_last_index=1)
    return RandomNode(one(r, "ArgMax", "ArgMin"), [x], attributes)


def softmax(r: Random) -> RandomNode:
    rank = int(whole(r, 1, 4))
    attributes = optional(r, axis=int(whole(r, -rank, rank - 1)))
    opset = one(r, 11, 13)
    if opset == 11 and rank == 1:
        attributes["axis"] = 0
    return RandomNode(
        one(r, "Softmax", "LogSoftmax", "Hardmax"),
        [floats(r, *dims(r, rank - 1), int(whole(r, 1, one(r, 6, 35)))) * 5],
        attributes,
        opset=opset,
    )


def elementwise(r: Random) -> RandomNode:
    shape = dims(r, int(whole(r, 0, 4)))
    name = one(r, "Add", "Sub", "Mul", "Div", "Pow", "PRelu", "Max", "Min", "Mod", "Less", "Equal", "GreaterOrEqual")
    dtype = one(r, np.float32, np.float64, np.int64, np.int32)
    if name in ("Pow", "PRelu"):
        dtype = np.float32
    x, y = (np.asarray(whole(r, 1, 5, s)).astype(dtype) for s in (shape, broadcastable(r, shape)))
    if coin(r) and name not in ("Pow", "PRelu"):
        x, y = y, x
    if dtype in (np.float32, np.float64) and name != "Pow":
        x = x - dtype(2.5)
    attributes = {"fmod": 1} if name == "Mod" and dtype in (np.float32, np.float64) else {}
    return RandomNode(name, [x, y], attributes, constants=one(r, (), (1,)))


def unary(r: Random) -> RandomNode:
    attributes: dict[str, dict[str, Any]] = {
        "Elu": optional(r, alpha=0.7), "LeakyRelu": optional(r, alpha=0.2), "Selu": optional(r, alpha=1.5, gamma=1.1),
        "HardSigmoid": optional(r, alpha=0.3, beta=0.4), "ThresholdedRelu": optional(r, alpha=0.4),
        "Gelu": optional(r, approximate="tanh"), "Shrink": optional(r, lambd=0.3), "Celu": optional(r, alpha=2.0),
    }  # fmt: skip
    plain = ["Relu", "Sigmoid", "Tanh", "Softplus", "Softsign", "HardSwish", "Mish", "Erf", "Exp", "Abs", "Neg"]
    plain += ["Floor", "Ceil", "Round", "Sign", "Sin", "Cos", "Atan", "Sinh"]
    name = one(r, *attributes, *plain)
    return RandomNode(name, [floats(r, *dims(r, int(whole(r, 0, 4)))) * 3], attributes.get(name, {}))


def slicing(r: Random) -> RandomNode:
    rank = int(whole(r, 1, 4))
    shape = dims(r, rank, 1, 7)
    count = int(whole(r, 1, rank))
    axes = r.permutation(rank)[:count]
    starts, ends = whole(r, -9, 9, count), whole(r, -9, 9, count)
    steps = np.where(r.random(count) < 0.4, -1, 1) * whole(r, 1, 3, count)
    given = [starts, ends, axes - rank * coin(r) if count < rank or coin(r) else None, steps if coin(r) else None]
    inputs = [None if a is None else a.astype(np.int64) for a in given]
    return RandomNode("Slice", [floats(r, *shape), *inputs], opset=13, constants=one(r, (), (1, 2, 3, 4)))


def pad(r: Random) -> RandomNode:
    rank = int(whole(r, 1, 4))
    shape = dims(r, rank, 2, 5)
    mode = one(r, "constant", "edge", "reflect", "wrap")
    axes = np.sort(r.permutation(rank)[: whole(r, 1, rank)]) if coin(r) else None
    sizes = [shape[a] for a in (range(rank) if axes is None else axes)]
    pads = np.array([whole(r, -1 if mode == "constant" else 0, n - 1) for n in sizes * 2])
    value = np.array(1.5, np.float32) if mode == "constant" and coin(r) else None
    return RandomNode("Pad", [floats(r, *shape), pads, value, axes], {"mode": mode}, constants=one(r, (), (1, 3)))


def gathering(r: Random) -> RandomNode:
    rank = int(whole(r, 1, 4))
    shape = dims(r, rank, 2, 5)
    axis = int(whole(r, -rank, rank - 1))
    size = shape[axis]
    if coin(r):
        index = whole(r, -size, size - 1, dims(r, int(whole(r, 0, 2)), 1, 4))
        return RandomNode("Gather", [floats(r, *shape), np.asarray(index)], {"axis": axis}, constants=one(r, (), (1,)))
    counts = [int(whole(r, 1, n)) for n in shape]
    counts[axis] = int(whole(r, 1, 6))
    return RandomNode("GatherElements", [floats(r, *shape), whole(r, -size, size - 1, counts)], {"axis": axis})


def gather_nd(r: Random) -> RandomNode:
    rank = int(whole(r, 2, 4))
    shape = dims(r, rank, 2, 4)
    batch = int(whole(r, 0, 1))
    last = int(whole(r, 1, rank - batch))
    index = np.stack([whole(r, -n, n - 1, [*shape[:batch], 3]) for n in shape[batch : batch + last]], -1)
    return RandomNode("GatherND", [floats(r, *shape), index], {"batch_dims": batch})


def scattering(r: Random) -> RandomNode:
    rank = int(whole(r, 1, 3))
    shape = dims(r, rank, 2, 5)
    axis = int(whole(r, -rank, rank - 1))
    reduction = one(r, "none", "add", "mul", "max", "min")
    counts = [int(whole(r, 1, n)) for n in shape]
    index = np.argsort(r.random([*counts[:axis], shape[axis], *counts[axis:][1:]]), axis=axis)  # no index twice
    index = index.take(np.arange(counts[axis]), axis)
    if reduction != "none":
        index = whole(r, -shape[axis], shape[axis] - 1, counts)
    attributes = {"axis": axis, "reduction": reduction}
    return RandomNode("ScatterElements", [floats(r, *shape), index, floats(r, *counts)], attributes, opset=18)


def scatter_nd(r: Random) -> RandomNode:
    rank = int(whole(r, 1, 3))
    shape = dims(r, rank, 2, 5)
    last = int(whole(r, 1, rank))
    reduction = one(r, "none", "add", "mul", "max", "min")
    places = np.stack(np.unravel_index(r.permutation(np.prod(shape[:last]))[:2], shape[:last]), -1)
    updates = floats(r, len(places), *shape[last:])
    return RandomNode("ScatterND", [floats(r, *shape), places, updates], {"reduction": reduction}, opset=18)


def recurrent(r: Random) -> RandomNode:
    name = one(r, "RNN", "GRU", "LSTM")
    gates = {"RNN": 1, "GRU": 3, "LSTM": 4}[name]
    time, batch, size, hidden = *dims(r, 3, 1, 5), int(whole(r, 1, one(r, 5, 5, 18)))
    direction = one(r, "forward", "reverse", "bidirectional")
    d = 2 if direction == "bidirectional" else 1
    lengths = whole(r, 1, time, batch).astype(np.int32) if coin(r) else None
    inputs = [
        floats(r, time, batch, size), floats(r, d, gates * hidden, size), floats(r, d, gates * hidden, hidden),
        floats(r, d, 2 * gates * hidden) if coin(r) else None, lengths,
        floats(r, d, batch, hidden) if coin(r) else None,
    ]  # fmt: skip
    attributes: dict[str, Any] = {"hidden_size": hidden, "direction": direction} | optional(r, clip=one(r, 0.2, 0.7))
    if name == "LSTM":
        inputs += [floats(r, d, batch, hidden) if coin(r) else None, floats(r, d, 3 * hidden) if coin(r) else None]
        attributes |= optional(r, input_forget=1)
    if name == "GRU":
        attributes |= optional(r, linear_before_reset=1)
    if coin(r):
        known, count = ("Relu", "Tanh", "Sigmoid", "HardSigmoid", "Softsign"), {"RNN": 1, "GRU": 2, "LSTM": 3}[name]
        attributes["activations"] = [one(r, *known) for _ in range(count * d)]
    return RandomNode(name, inputs, attributes, 3 if name == "LSTM" else 2, opset=14, constants=(1, 2, 3))


def normalising(r: Random) -> RandomNode:
    rank = int(whole(r, 3, 4))
    shape = dims(r, rank, 2, 5)
    x, n = floats(r, *shape), shape[1]
    match one(r, "BatchNormalization", "InstanceNormalization", "LayerNormalization", "LRN", "GroupNormalization"):
        case "BatchNormalization":
            inputs = [x, floats(r, n), floats(r, n), floats(r, n), np.abs(floats(r, n)) + 0.1]
            return RandomNode("BatchNormalization", inputs, optional(r, epsilon=0.1), opset=15, constants=(1, 2, 3, 4))
        case "InstanceNormalization":
            return RandomNode("InstanceNormalization", [x, floats(r, n), floats(r, n)], optional(r, epsilon=0.1))
        case "LayerNormalization":
            axis = int(whole(r, -rank, rank - 1))
            w = floats(r, *shape[axis:])
            return RandomNode("LayerNormalization", [x, w, w + 1 if coin(r) else None], {"axis": axis}, one(r, 1, 3))
        case "LRN":
            shape = dims(r, 4, 2, 6)
            return RandomNode(
                "LRN",
                [floats(r, *shape)],
                {"size": int(whole(r, 1, 6))} | optional(r, alpha=one(r, 0.5, 2.0), beta=0.6, bias=2.0),
            )
        case _:
            groups = one(r, 1, 2, 3)
            shape[1] = groups * int(whole(r, 1, 3))
            inputs = [floats(r, *shape), floats(r, shape[1]), floats(r, shape[1])]
            return RandomNode("GroupNormalization", inputs, {"num_groups": groups}, opset=21)


def attention(r: Random) -> RandomNode:
    batch, queries, keys, size, sized = dims(r, 5, 1, 5)
    kv = int(whole(r, 1, 2))
    heads = kv * int(whole(r, 1, 2))
    q, k, v = (
        floats(r, batch, heads, queries, size),
        floats(r, batch, kv, keys, size),
        floats(r, batch, kv, keys, sized),
    )
    mask = (
        floats(r, *one(r, (queries, keys), (1, 1, queries, keys), (batch, heads, queries, keys))) if coin(r) else None
    )
    attributes: dict[str, Any] = optional(r, scale=0.3, is_causal=1, softcap=2.0)
    if coin(r):
        return RandomNode("Attention", [q, k, v, mask], attributes, opset=23)
    flat = [x.transpose(0, 2, 1, 3).reshape(batch, x.shape[2], -1) for x in (q, k, v)]
    return RandomNode("Attention", [*flat, mask], attributes | {"q_num_heads": heads, "kv_num_heads": kv}, opset=23)


def quantised(r: Random) -> tuple[Any, Any, Any]:
    dtype = one(r, np.uint8, np.int8)
    zero = np.array(whole(r, 100, 150) if dtype == np.uint8 else whole(r, -20, 20), dtype)
    return dtype, np.array(r.uniform(0.01, 0.1), np.float32), zero


def small(r: Random, dtype: Any, *shape: int) -> Any:
    info = np.iinfo(dtype)
    return r.integers(info.min, info.max + 1, shape).astype(dtype)


def qlinear_conv(r: Random) -> RandomNode:
    group = one(r, 1, 1, 2)
    space = dims(r, one(r, 1, 2), 3, 8)
    attributes = _window(r, space) | {"group": group}
    out, into = group * int(whole(r, 1, 3)), group * int(whole(r, 1, 3))
    (tx, sx, zx), (ty, sy, zy) = quantised(r), quantised(r)
    ty, zy = tx, zx if ty != tx else zy
    per_channel = coin(r)
    sw = r.uniform(0.01, 0.1, out if per_channel else ()).astype(np.float32)
    zw = np.zeros(sw.shape, np.int8)
    bias = whole(r, -500, 500, out).astype(np.int32) if coin(r) else None
    w = small(r, np.int8, out, into // group, *attributes["kernel_shape"])
    inputs = [small(r, tx, 2, into, *space), sx, zx, w, sw, zw, sy * 10, zy, bias]
    return RandomNode("QLinearConv", inputs, attributes, tolerance=1, constants=tuple(range(1, 9)))


def qlinear_matmul(r: Random) -> RandomNode:
    (ta, sa, za), (tb, sb, zb), (_, sy, zy) = quantised(r), quantised(r), quantised(r)
    m, k, n = dims(r, 3, 1, 8)
    zy = zy if zy.dtype == ta else za
    a, b = small(r, ta, *dims(r, int(whole(r, 0, 1))), m, k), small(r, tb, k, n)
    return RandomNode(
        "QLinearMatMul", [a, sa, za, b, sb, zb, sy * 10, zy], tolerance=1, constants=(1, 2, 3, 4, 5, 6, 7)
    )


def integer_matmul(r: Random) -> RandomNode:
    (ta, _, za), (tb, _, zb) = quantised(r), quantised(r)
    m, k, n = dims(r, 3, 1, 8)
    if coin(r):
        zb = small(r, tb, n)
    inputs = [small(r, ta, m, k), small(r, tb, k, n), za if coin(r) else None, zb if coin(r) else None]
    return RandomNode("MatMulInteger", inputs, tolerance=0)


def quantising(r: Random) -> RandomNode:
    dtype, scale, zero = quantised(r)
    shape, opset = dims(r, int(whole(r, 1, 4)), 1, 5), one(r, 13, 19, 21)
    axis = int(whole(r, 0, len(shape) - 1))
    if coin(r):
        scale = r.uniform(0.01, 0.1, shape[axis]).astype(np.float32)
        zero = small(r, dtype, shape[axis])
    attributes = {"axis": axis}
    if r.random() < 0.2:
        x = floats(r, *shape) * np.float32(one(r, 0.1, 4)) + np.float32(one(r, -3, 0, 3))
        return RandomNode("DynamicQuantizeLinear", [x], {}, 3, tolerance=1)
    if coin(r):
        return RandomNode("QuantizeLinear", [floats(r, *shape) * 4, scale, zero], attributes, opset=opset, tolerance=1)
    return RandomNode("DequantizeLinear", [small(r, dtype, *shape), scale, zero], attributes, opset=opset)


def rearranging(r: Random) -> RandomNode:
    rank = int(whole(r, 1, 5))
    shape = dims(r, rank, 1, 4)
    x = floats(r, *shape)
    match one(
        r, "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Expand", "Tile", "Concat", "Split", "Trilu"
    ):
        case "Transpose":
            return RandomNode("Transpose", [x], optional(r, perm=[int(i) for i in r.permutation(rank)]))
        case "Reshape":
            target = [int(n) for n in r.permutation(shape)]
            if coin(r):
                target[r.integers(rank)] = -1
            return RandomNode("Reshape", [x, np.array(target)], optional(r, allowzero=1), constants=one(r, (), (1,)))
        case "Squeeze":
            ones = [i - rank * coin(r) for i, n in enumerate(shape) if n == 1]
            return RandomNode("Squeeze", [x, np.array(ones) if ones and coin(r) else None], constants=(1,))
        case "Unsqueeze":
            axes = r.permutation(rank + 2)[:2] - (rank + 2) * coin(r)
            return RandomNode("Unsqueeze", [x, axes], constants=(1,))
        case "Flatten":
            return RandomNode("Flatten", [x], optional(r, axis=int(whole(r, -rank, rank))))
        case "Expand":
            return RandomNode("Expand", [floats(r, *broadcastable(r, shape)), np.array(shape)])
        case "Tile":
            return RandomNode("Tile", [x, whole(r, 0, 3, rank)])
        case "Concat":
            axis = int(whole(r, -rank, rank - 1))
            others = []
            for _ in range(int(whole(r, 0, 2))):
                other = list(shape)
                other[axis] = int(whole(r, 0, 3))
                others.append(floats(r, *other))
            return RandomNode("Concat", [x, *others], {"axis": axis})
        case "Split":
            axis = int(whole(r, -rank, rank - 1))
            count = int(whole(r, 1, 3))
            sizes = r.multinomial(shape[axis], [1 / count] * count)
            if coin(r):
                return RandomNode("Split", [x, sizes], {"axis": axis}, count, opset=13, constants=(1,))
            return RandomNode("Split", [x], {"axis": axis, "num_outputs": count}, count, opset=18)
        case _:
            x = floats(r, *dims(r, int(whole(r, 2, 3))))
            return RandomNode("Trilu", [x, np.array(whole(r, -4, 4))], optional(r, upper=0))


def choosing(r: Random) -> RandomNode:
    rank = int(whole(r, 1, 3))
    shape = dims(r, rank, 2, 6)
    axis = int(whole(r, -rank, rank - 1))
    x = floats(r, *shape)
    match one(r, "TopK", "Where", "NonZero", "CumSum", "OneHot", "Compress", "Unique", "Clip", "ReverseSequence"):
        case "TopK":
            attributes = {"axis": axis} | optional(r, largest=0)
            return RandomNode("TopK", [x, np.array([whole(r, 1, shape[axis])])], attributes, 2)
        case "Where":
            parts = [floats(r, *broadcastable(r, shape)) for _ in range(2)]
            return RandomNode("Where", [x > 0, *parts])
        case "NonZero":
            return RandomNode("NonZero", [np.where(x > 0, x, 0)])
        case "CumSum":
            return RandomNode("CumSum", [x, np.array(axis)], optional(r, exclusive=1, reverse=1))
        case "OneHot":
            index = whole(r, -4, 5, shape)
            return RandomNode("OneHot", [index, np.array(4), np.array([0, 1], np.float32)], {"axis": axis})
        case "Compress":
            return RandomNode("Compress", [x, r.random(shape[axis]) < 0.5], {"axis": axis})
        case "Unique":
            return RandomNode("Unique", [np.round(x)], optional(r, sorted=1) | optional(r, axis=axis), 4)
        case "Clip":
            low, high = np.float32(-0.5), np.float32(0.5)
            return RandomNode("Clip", [x, np.array(low) if coin(r) else None, np.array(high) if coin(r) else None])
        case _:
            x = floats(r, 4, 3, 2)
            t, b = one(r, (0, 1), (1, 0))
            lengths = whole(r, 1, x.shape[t], x.shape[b])
            return RandomNode("ReverseSequence", [x, lengths], {"time_axis": t, "batch_axis": b})


def vision(r: Random) -> RandomNode:
    match one(r, "GridSample", "DepthToSpace", "SpaceToDepth", "RoiAlign", "NonMaxSuppression", "Einsum", "GlobalPool"):
        case "GridSample":
            n, c, h, w = dims(r, 4, 1, 5)
            grid = r.uniform(-1.3, 1.3, (n, *dims(r, 2, 1, 4), 2)).astype(np.float32)
            attributes = {"mode": one(r, "bilinear", "nearest", "bicubic")}
            attributes |= optional(r, padding_mode=one(r, "zeros", "border", "reflection"), align_corners=1)
            return RandomNode("GridSample", [floats(r, n, c, h, w), grid], attributes, opset=16)
        case "DepthToSpace":
            block = one(r, 1, 2, 3)
            x = floats(r, 2, block * block * int(whole(r, 1, 2)), *dims(r, 2, 1, 3))
            return RandomNode("DepthToSpace", [x], {"blocksize": block} | optional(r, mode="CRD"), opset=13)
        case "SpaceToDepth":
            block = one(r, 1, 2)
            x = floats(r, 2, 3, *(block * n for n in dims(r, 2, 1, 3)))
            return RandomNode("SpaceToDepth", [x], {"blocksize": block}, opset=13)
        case "RoiAlign":
            rois = np.sort(r.uniform(0, 8, (3, 2, 2)), axis=1).reshape(3, 4).astype(np.float32)
            attributes = {"output_height": int(whole(r, 1, 3)), "output_width": int(whole(r, 1, 3))}
            attributes |= optional(r, mode="max", sampling_ratio=2, spatial_scale=0.5)
            attributes["coordinate_transformation_mode"] = one(r, "half_pixel", "output_half_pixel")
            return RandomNode("RoiAlign", [floats(r, 2, 2, 8, 8), rois, whole(r, 0, 1, 3)], attributes, opset=16)
        case "NonMaxSuppression":
            boxes, scores = r.uniform(0, 1, (2, 8, 4)).astype(np.float32), r.random((2, 2, 8)).astype(np.float32)
            limits = [np.array([whole(r, 1, 5)]), np.array([0.3], np.float32), np.array([0.2], np.float32)]
            return RandomNode("NonMaxSuppression", [boxes, scores, *limits], optional(r, center_point_box=1), opset=11)
        case "Einsum":
            equation, shapes = one(
                r, ("ij,jk->ik", [(2, 3), (3, 4)]), ("bij,bjk->bik", [(2, 2, 3), (2, 3, 4)]), ("ii->i", [(3, 3)]),
                ("...ij->...ji", [(2, 2, 3)]), ("ij->", [(2, 3)]), ("bhqd,bhkd->bhqk", [(1, 2, 3, 4), (1, 2, 5, 4)]),
            )  # fmt: skip
            return RandomNode("Einsum", [floats(r, *shape) for shape in shapes], {"equation": equation}, opset=12)
        case _:
            x = floats(r, *dims(r, int(whole(r, 3, 5)), 1, 5))
            return RandomNode(one(r, "GlobalAveragePool", "GlobalMaxPool"), [x])


FAMILIES: list[Callable[[Random], RandomNode]] = [
    conv, conv_transpose, max_pool, average_pool, lp_pool, resize, gemm, matmul, reduction, arg, softmax, elementwise,
    unary, slicing, pad, gathering, gather_nd, scattering, scatter_nd, recurrent, normalising, attention, qlinear_conv,
    qlinear_matmul, integer_matmul, quantising, rearranging, choosing, vision, rows, linear_regressor, trees,
]  # fmt: skip

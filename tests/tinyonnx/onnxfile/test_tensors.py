"""Broken tensors."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.tinyonnx.onnxfile.hostile import FLOAT, SMALL, parsed, refused, with_tensor
from tinyonnx.errors import ResourceError
from tinyonnx.limits import Limits
from tinyonnx.onnxfile.load import load


@pytest.mark.parametrize(
    ("fields", "cause"),
    [
        ({"dims": [3], "raw_data": bytes(8)}, "8 bytes, its shape [3] and type need 12"),
        ({"dims": [1], "raw_data": bytes(8)}, "8 bytes"),
        ({"dims": [3], "float_data": [1, 2]}, "2 values in float_data"),
        ({"dims": [3], "int32_data": [1, 2, 3]}, "0 values in float_data"),
        ({"dims": [3]}, "0 values"),
        ({"dims": [2], "float_data": [1, 2], "raw_data": bytes(8)}, "in several fields"),
        ({"dims": [-1], "raw_data": bytes(4)}, "negative dimension -1"),
        ({"dims": [1 << 62, 4], "raw_data": bytes(4)}, "over"),
        ({"dims": [0, 1 << 62]}, "over"),
        ({"dims": [1 << 40], "float_data": [1.0]}, "over"),
        ({"dims": [1] * 65, "raw_data": bytes(4)}, "rank 65"),
        ({"dims": [1], "data_type": 0, "raw_data": bytes(4)}, "no data type"),
        ({"dims": [1], "data_type": 999, "raw_data": bytes(4)}, "unknown data type 999"),
        ({"dims": [3], "data_type": TensorProto.INT4, "raw_data": bytes(1)}, "1 bytes"),
        ({"dims": [3], "data_type": TensorProto.INT4, "int32_data": [1]}, "1 values in int32_data"),
        ({"dims": [1], "data_type": TensorProto.COMPLEX64, "float_data": [1.0]}, "need 2"),
        ({"dims": [2], "data_type": TensorProto.STRING, "string_data": [b"a"]}, "1 strings"),
        ({"dims": [1], "data_type": TensorProto.STRING, "raw_data": b"a"}, "can't be raw"),
        ({"dims": [1], "raw_data": bytes(4), "segment": TensorProto.Segment(begin=0, end=1)}, "segments"),
    ],
)
def test_tensors(fields: dict[str, Any], cause: str):
    refused(with_tensor(**{"data_type": FLOAT, **fields}), 'initializer "w"', cause)


def test_tensor_over_the_limit():
    model = with_tensor(data_type=FLOAT, dims=[100], raw_data=bytes(400))
    load(model.SerializeToString(), Limits(max_tensor_bytes=400))
    assert isinstance(refused(model, "399", limits=Limits(max_tensor_bytes=399)), ResourceError)


@pytest.mark.parametrize(
    ("indices", "dims", "cause"),
    [
        ([0, 9], [9], "outside of its shape"),
        ([-1, 2], [9], "outside of its shape"),
        ([2, 2], [9], "not ascending"),
        ([0, 1, 2], [9], "indices int64[3] for values [2]"),
        ([[0, 0], [0, 3]], [3, 3], "outside of its shape"),
        ([[0, 0], [0, -1]], [3, 3], "outside of its shape"),
        ([0, 1], [-9], "negative"),
        ([0, 1], [1 << 40], "over"),
    ],
)
def test_sparse_tensors(indices: Any, dims: list[int], cause: str):
    model = parsed(SMALL)
    values = numpy_helper.from_array(np.ones(2, np.float32), "s")
    model.graph.sparse_initializer.append(
        helper.make_sparse_tensor(values, numpy_helper.from_array(np.int64(indices)), dims)
    )
    refused(model, 'sparse initializer "s"', cause)


def test_many_sparse_tensors_can_not_fill_the_memory():
    model = parsed(SMALL)
    for i in range(100):
        values = numpy_helper.from_array(np.ones(1, np.float32), f"s{i}")
        model.graph.sparse_initializer.append(
            helper.make_sparse_tensor(values, numpy_helper.from_array(np.int64([0])), [1 << 20])
        )
    tracemalloc.start()
    try:
        refused(model, '"s4"', limits=Limits(max_tensor_bytes=4 << 22))
        assert tracemalloc.get_traced_memory()[1] < 5 << 22
    finally:
        tracemalloc.stop()

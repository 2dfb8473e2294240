"""Operators of the domain ai.onnx.ml; importing this package registers them."""

from tinyonnx.ops.ml import features, linear, maps, svm, trees  # noqa: F401

"""Examples of every operator: the cases of onnx's backend suite, and some for operators without cases."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, helper, load_from_string

from onnx_conformance.generate.sample import ML, Draft, Sample, drafts_of
from onnx_conformance.suite.cases import load_suite

Operator = tuple[str, str]
"""Domain and name."""

_LARGEST = 1 << 14
"""Examples whose inputs have at least this many elements in total are left out."""


@dataclass
class Corpus:
    """Examples of single nodes by operator, whole graphs, and the attribute values that they have."""

    nodes: dict[Operator, list[Draft]] = field(default_factory=lambda: defaultdict(list))
    graphs: list[Sample] = field(default_factory=list)
    attributes: dict[tuple[Operator, str], list[Any]] = field(default_factory=lambda: defaultdict(list))

    def add(self, draft: Draft) -> None:
        """Add an example of a node."""
        operator = (draft.node.domain.removeprefix("ai.onnx") if draft.node.domain == "ai.onnx" else draft.node.domain,
                    draft.node.op_type)  # fmt: skip
        self.nodes[operator].append(draft)
        for attribute in draft.node.attribute:
            if attribute.type != onnx.AttributeProto.GRAPH:
                known = self.attributes[operator, attribute.name]
                value = helper.get_attribute_value(attribute)
                if not any(_same(value, other) for other in known):
                    known.append(value)


def _same(a: Any, b: Any) -> bool:
    return type(a) is type(b) and bool(a == b)


def load_corpus() -> Corpus:
    """Return the examples; takes seconds, because onnx computes its cases."""
    corpus = Corpus()
    for case in load_suite(["node", "simple"]):
        model, feeds = load_from_string(case.model), case.data_sets[0].feeds
        if model.functions or sum(getattr(value, "size", 0) for value in feeds.values()) > _LARGEST:
            continue
        model.ir_version = max(model.ir_version, 8)
        sample = Sample(model, feeds, case.name)
        if len(model.graph.node) > 1:
            corpus.graphs.append(sample)
            continue
        for draft in drafts_of([sample]):
            corpus.add(draft)
    for draft in _further():
        corpus.add(draft)
    return corpus


def _further() -> list[Draft]:
    """Return examples of operators for which the suite has no cases of one node."""
    r = np.random.default_rng(0)
    x = r.standard_normal((2, 3, 6, 6)).astype(np.float32)
    rows = r.standard_normal((4, 3)).astype(np.float32)
    rois = np.array([[0, 0, 0, 4, 4], [1, 1, 2, 5, 5]], np.float32)
    many = [rows, rows + 1, rows * 2]
    sequence = helper.make_sequence_type_proto(helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, None))
    plain: list[tuple[str, str, list[Any], dict[str, Any], int]] = [
        ("", "GlobalLpPool", [x], {"p": 2}, 2),
        ("", "MaxRoiPool", [x, rois], {"pooled_shape": [2, 2], "spatial_scale": 1.0}, 1),
        ("", "RandomNormal", [], {"shape": [2, 3], "seed": 1.0}, 1),
        ("", "RandomUniform", [], {"shape": [2, 3], "seed": 1.0}, 1),
        ("", "RandomNormalLike", [x], {"seed": 1.0}, 1),
        ("", "RandomUniformLike", [x], {"seed": 1.0}, 1),
        ("", "Multinomial", [rows], {"sample_size": 5, "seed": 1.0}, 7),
        ("", "SequenceConstruct", many, {}, 11),
        ("", "SequenceEmpty", [], {"dtype": 1}, 11),
        ("", "SequenceAt", [many, np.array(1)], {}, 11),
        ("", "SequenceErase", [many, np.array(-1)], {}, 11),
        ("", "SequenceLength", [many], {}, 11),
        ("", "ConcatFromSequence", [many], {"axis": 0}, 11),
        ("", "ConcatFromSequence", [many], {"axis": 1, "new_axis": 1}, 11),
        ("", "Optional", [rows], {}, 15),
        (ML, "CategoryMapper", [np.array(["a", "b", "z"], object)],
         {"cats_int64s": [1, 2], "cats_strings": ["a", "b"], "default_int64": -1}, 1),
        (ML, "FeatureVectorizer", [rows, rows[:, :2]], {"inputdimensions": [3, 2]}, 1),
        (ML, "Imputer", [np.where(rows > 1, np.float32(np.nan), rows)],
         {"imputed_value_floats": [1.0, 2.0, 3.0], "replaced_value_float": float("nan")}, 1),
        (ML, "LinearRegressor", [rows], {"coefficients": [0.5, 1.0, -1.0], "intercepts": [0.25], "targets": 1}, 1),
        (ML, "LinearClassifier", [rows],
         {"coefficients": [0.5, 1.0, -1.0, 0.1, 0.2, 0.3], "intercepts": [0.25, -0.5], "classlabels_ints": [3, 7],
          "post_transform": "SOFTMAX", "multi_class": 1}, 1),
        (ML, "Normalizer", [rows], {"norm": "L1"}, 1),
        (ML, "Normalizer", [rows], {"norm": "L2"}, 1),
        (ML, "Normalizer", [rows], {"norm": "MAX"}, 1),
        (ML, "OneHotEncoder", [np.array([[1, 2], [3, 9]])], {"cats_int64s": [1, 2, 3], "zeros": 1}, 1),
        (ML, "Scaler", [rows], {"offset": [1.0, 0.0, -1.0], "scale": [2.0, 1.0, 0.5]}, 1),
        (ML, "SVMRegressor", [rows],
         {"kernel_type": "RBF", "kernel_params": [0.5, 0.0, 3.0], "n_supports": 2, "rho": [0.1],
          "coefficients": [1.0, -1.0], "support_vectors": [0.0, 1.0, 0.5, 1.0, 0.0, -0.5]}, 1),
        (ML, "SVMClassifier", [rows],
         {"kernel_type": "LINEAR", "classlabels_ints": [2, 5], "rho": [0.1], "coefficients": [1.0, -1.0],
          "support_vectors": [0.0, 1.0, 0.5, 1.0, 0.0, -0.5], "vectors_per_class": [1, 1],
          "kernel_params": [0.5, 0.0, 3.0]}, 1),
        (ML, "ZipMap", [rows], {"classlabels_int64s": [4, 5, 6]}, 1),
        (ML, "TreeEnsembleRegressor", [rows], _tree({"target_treeids": [0, 0], "target_nodeids": [1, 2],
         "target_ids": [0, 0], "target_weights": [1.5, -2.5], "n_targets": 1}), 1),
        (ML, "TreeEnsembleClassifier", [rows], _tree({"class_treeids": [0, 0], "class_nodeids": [1, 2],
         "class_ids": [0, 1], "class_weights": [1.0, 1.0], "classlabels_int64s": [4, 5]}), 1),
    ]  # fmt: skip
    outputs = {"LinearClassifier": 2, "TreeEnsembleClassifier": 2, "SVMClassifier": 2}
    drafts = []
    for domain, name, values, attributes, version in plain:
        names = [f"y{i}" for i in range(outputs.get(name, 1))]
        node: NodeProto = helper.make_node(name, [f"x{i}" for i in range(len(values))], names, **attributes)
        node.domain = domain
        drafts.append(Draft(node, values, version, {i: sequence for i, v in enumerate(values) if isinstance(v, list)}))
    return drafts


def _tree(leaves: dict[str, Any]) -> dict[str, Any]:
    """Return the attributes of a tree with one decision and two leaves."""
    return leaves | {
        "nodes_treeids": [0, 0, 0], "nodes_nodeids": [0, 1, 2], "nodes_featureids": [1, 0, 0],
        "nodes_values": [0.25, 0.0, 0.0], "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"],
        "nodes_truenodeids": [1, 0, 0], "nodes_falsenodeids": [2, 0, 0],
    }  # fmt: skip

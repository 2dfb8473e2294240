"""Options, named as in onnxruntime; those without a meaning here are accepted and ignored."""

from __future__ import annotations

import enum
from typing import Any

from tinyonnx.ir import Array
from tinyonnx.limits import Limits


class GraphOptimizationLevel(enum.IntEnum):
    """onnxruntime's levels; all except ORT_DISABLE_ALL run the whole pipeline."""

    ORT_DISABLE_ALL = 0
    ORT_ENABLE_BASIC = 1
    ORT_ENABLE_EXTENDED = 2
    ORT_ENABLE_LAYOUT = 3
    ORT_ENABLE_ALL = 99


class ExecutionMode(enum.IntEnum):
    """onnxruntime's execution modes; ignored: steps run one after the other."""

    ORT_SEQUENTIAL = 0
    ORT_PARALLEL = 1


class ExecutionOrder(enum.IntEnum):
    """onnxruntime's execution orders; ignored: nodes run in the order of the file."""

    DEFAULT = 0
    PRIORITY_BASED = 1
    MEMORY_EFFICIENT = 2


class SessionOptions:
    """Options for loading and running a model.

    Attributes:
        graph_optimization_level: ORT_DISABLE_ALL runs the nodes of the file one by one in
            numpy; all others run the pass pipeline and the kernels.
        intra_op_num_threads: threads that share the work of each kernel, at most one per
            processor; 0 for all processors.
        limits: bounds on the resources of loading and running (`tinyonnx.Limits`).
    """

    def __init__(self) -> None:
        self.intra_op_num_threads = 0
        self.inter_op_num_threads = 0
        self.graph_optimization_level = GraphOptimizationLevel.ORT_ENABLE_ALL
        self.execution_mode = ExecutionMode.ORT_SEQUENTIAL
        self.execution_order = ExecutionOrder.DEFAULT
        self.log_severity_level = 2
        self.log_verbosity_level = 0
        self.logid = ""
        self.enable_cpu_mem_arena = True
        self.enable_mem_pattern = True
        self.enable_mem_reuse = True
        self.enable_profiling = False
        self.profile_file_prefix = "onnxruntime_profile_"
        self.use_deterministic_compute = True
        self.use_per_session_threads = True
        self.limits = Limits()
        self.free_dimensions: dict[str, int] = {}
        self.replaced_initializers: dict[str, Array] = {}
        self._config: dict[str, str] = {}

    def add_free_dimension_override_by_name(self, name: str, size: int) -> None:
        """Fix a symbolic dimension: inputs must have this size there."""
        self.free_dimensions[name] = int(size)

    def add_initializer(self, name: str, value: Any) -> None:
        """Replace an initializer of the model by this OrtValue or array."""
        self.replaced_initializers[name] = value.numpy() if hasattr(value, "numpy") else value

    def add_session_config_entry(self, key: str, value: str) -> None:
        """Store a configuration entry; none has an effect."""
        self._config[key] = value

    def get_session_config_entry(self, key: str) -> str:
        """Return a configuration entry. Raises KeyError if it was never set."""
        return self._config[key]

    def register_custom_ops_library(self, path: str) -> None:
        """Raise NotImplementedError: custom operators are Python functions, see `tinyonnx.op`."""
        raise NotImplementedError(f"{path}: custom operators are Python functions: register them by @tinyonnx.op")


class RunOptions:
    """Options of one run.

    Attributes:
        terminate: set it to True from another thread to end the run with a ResourceError
            at the next step.
    """

    def __init__(self) -> None:
        self.log_severity_level = 2
        self.log_verbosity_level = 0
        self.logid = ""
        self.only_execute_path_to_fetches = True
        self.terminate = False
        self._config: dict[str, str] = {}

    def add_run_config_entry(self, key: str, value: str) -> None:
        """Store a configuration entry; none has an effect."""
        self._config[key] = value

    def get_run_config_entry(self, key: str) -> str:
        """Return a configuration entry. Raises KeyError if it was never set."""
        return self._config[key]

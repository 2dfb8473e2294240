"""Options, named as in onnxruntime; those without a meaning here are accepted and ignored."""

from __future__ import annotations

import enum
import operator
import os
from collections.abc import Sequence
from typing import Any

from tinyonnx.errors import InputError
from tinyonnx.ir import Array
from tinyonnx.limits import Limits
from tinyonnx.runtime.threads import available

PRECISIONS = ("float32", "bfloat16")
"""Values of `SessionOptions.precision`."""


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


class _Checked:
    """Attributes are those that `__init__` of a subclass sets; any other is refused, like values of other types."""

    _complete = False

    def __setattr__(self, name: str, value: Any) -> None:
        if self._complete and not hasattr(self, name):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        if self._complete and isinstance(old := getattr(self, name), str | int):
            value = _like(old, value, name)
        if name == "precision" and value not in PRECISIONS:
            raise ValueError(f"precision must be {' or '.join(PRECISIONS)}, not {value!r}")
        object.__setattr__(self, name, value)


def _like(old: str | int, value: Any, name: str) -> Any:
    """Return the value as the type of the old one. Raises TypeError if that is not possible."""
    try:
        if isinstance(old, enum.IntEnum):
            return type(old)(value)
        if isinstance(old, str):
            return os.fspath(value) if hasattr(value, "__fspath__") else "".join(value)
        return value if isinstance(value, bool) else operator.index(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be {type(old).__name__}, not {value!r}") from None


class SessionOptions(_Checked):
    """Options for loading and running a model.

    Attributes:
        graph_optimization_level: ORT_DISABLE_ALL runs the nodes of the file one by one in
            numpy; all others run the pass pipeline and the kernels.
        intra_op_num_threads: threads that share the work of each kernel, at most one per
            processor; 0 for all processors.
        optimized_model_filepath: where to write the model with constants and normalisations folded.
        enable_profiling: record the time of every node; `end_profiling` writes the file.
        precision: "float32", or "bfloat16" to round operands of products to bfloat16 in layers where the error stays
            small; sums are float32. Processors without AVX512-BF16 run float32: see `InferenceSession.precision`.
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
        self.optimized_model_filepath = ""
        self.use_deterministic_compute = True
        self.use_per_session_threads = True
        self.precision = "float32"
        self.limits = Limits()
        self.free_dimensions: dict[str, int] = {}
        self.replaced_initializers: dict[str, Array] = {}
        self.external_initializers: dict[str, Array] = {}
        self._config: dict[str, str] = {}
        self._complete = True

    @property
    def external_folder(self) -> str | None:
        """The folder of external data for models from bytes; None if it was not set."""
        return self._config.get("session.model_external_initializers_file_folder_path")

    def add_free_dimension_override_by_name(self, name: str, size: int) -> None:
        """Fix a symbolic dimension: inputs must have this size there."""
        self.free_dimensions[name] = int(size)

    def add_initializer(self, name: str, value: Any) -> None:
        """Replace an initializer of the model by this OrtValue or array."""
        self.replaced_initializers[name] = value.numpy() if hasattr(value, "numpy") else value

    def add_external_initializers(self, names: Sequence[str], values: Sequence[Any]) -> None:
        """Use these OrtValues or arrays for initializers with external data, whose files are then not read."""
        if len(names) != len(values):
            raise ValueError(f"{len(names)} names and {len(values)} values")
        arrays = (value.numpy() if hasattr(value, "numpy") else value for value in values)
        self.external_initializers.update(zip(names, arrays))

    def add_session_config_entry(self, key: str, value: str) -> None:
        """Store a configuration entry; `session.model_external_initializers_file_folder_path` has an effect."""
        self._config[key] = value

    def get_session_config_entry(self, key: str) -> str:
        """Return a configuration entry. Raises RuntimeError if it was never set."""
        return _entry(self._config, key)

    def has_providers(self) -> bool:
        """Return False: no provider is added to options."""
        return False

    def register_custom_ops_library(self, path: str) -> None:
        """Raise NotImplementedError: custom operators are Python functions, see `tinyonnx.op`."""
        raise NotImplementedError(f"{path}: custom operators are Python functions: register them by @tinyonnx.op")


class RunOptions(_Checked):
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
        self._complete = True

    def add_run_config_entry(self, key: str, value: str) -> None:
        """Store a configuration entry; none has an effect."""
        self._config[key] = value

    def get_run_config_entry(self, key: str) -> str:
        """Return a configuration entry. Raises RuntimeError if it was never set."""
        return _entry(self._config, key)


def threads_of(options: SessionOptions) -> int:
    """Return the number of threads of a run: as many as are wanted, at most one per processor. Raises InputError."""
    wanted = options.intra_op_num_threads
    if not isinstance(wanted, int):
        raise InputError(f"intra_op_num_threads must be an int, not {wanted!r}")
    return min(wanted, available()) if wanted > 0 else available()


def _entry(config: dict[str, str], key: str) -> str:
    if key not in config:
        raise RuntimeError(f"there is no configuration entry {key!r}")
    return config[key]

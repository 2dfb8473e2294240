"""The part of a session that describes it: inputs, outputs, metadata, providers, and onnxruntime's private names."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tinyonnx.dtypes import onnx_type
from tinyonnx.ir import Graph, Value
from tinyonnx.ort.process import get_available_providers

if TYPE_CHECKING:
    from tinyonnx.ort.options import SessionOptions
    from tinyonnx.ort.profiling import SessionProfile


@dataclass(frozen=True)
class NodeArg:
    """Name, ONNX type (such as ``tensor(float)``) and shape of an input or output; symbolic dimensions are strings."""

    name: str
    type: str
    shape: list[int | str | None]


@dataclass(frozen=True)
class ModelMetadata:
    """The metadata in the file."""

    producer_name: str = ""
    graph_name: str = ""
    domain: str = ""
    description: str = ""
    graph_description: str = ""
    version: int = 0
    custom_metadata_map: dict[str, str] = field(default_factory=dict)


def warn_of_unavailable(providers: Sequence[Any] | None) -> None:
    """Warn of each provider that is not available, as onnxruntime does."""
    available = get_available_providers()
    for provider in providers or ():
        name = provider[0] if isinstance(provider, tuple) else provider
        if name not in available:
            warnings.warn(
                f"Specified provider '{name}' is not in available provider names."
                f"Available providers: '{', '.join(available)}'",
                stacklevel=3,
            )


class SessionDescription:
    """Describes a session. Packages read some of onnxruntime's private attributes: they are here, too."""

    _graph: Graph
    _options: SessionOptions
    _given: tuple[Any, SessionOptions | None]
    _profile: SessionProfile | None = None

    def get_inputs(self) -> list[NodeArg]:
        """Return the inputs that must be fed."""
        return [_node_arg(v, v.name) for v in self._graph.inputs]

    def get_outputs(self) -> list[NodeArg]:
        """Return the outputs that `run(None, feeds)` gives; shapes that the file lacks are inferred."""
        return list(self._outputs)

    @cached_property
    def _outputs(self) -> list[NodeArg]:
        declared = list(zip(self._graph.outputs, self._graph.output_names, strict=True))
        if all(value.type and (value.shape is not None or "tensor" not in value.type) for value, _ in declared):
            return [_node_arg(value, name) for value, name in declared]
        from tinyonnx.runtime.shapes import infer_shapes

        inferred = infer_shapes(self._graph, self._options.limits).values
        symbols = {d for v in self._graph.inputs for d in v.shape or () if isinstance(d, str)}
        found = []
        for value, name in declared:
            known = inferred.get(value.name)
            arg = _node_arg(value, name)
            if known is not None and not arg.type:
                arg = NodeArg(name, onnx_type(known.dtype) or "" if known.dtype is not None else "", arg.shape)
            if known is not None and value.shape is None:
                shape = [d if isinstance(d, int) or d in symbols else None for d in known.shape or ()]
                arg = NodeArg(name, arg.type, shape)
            found.append(arg)
        return found

    def get_overridable_initializers(self) -> list[NodeArg]:
        """Return the inputs that may be left out because the file has values for them."""
        return [_node_arg(v, v.name) for v in self._graph.overridable]

    def get_modelmeta(self) -> ModelMetadata:
        """Return the metadata in the file."""
        data = self._graph.metadata
        return ModelMetadata(
            producer_name=data.get("producer_name", ""),
            graph_name=data.get("graph_name", ""),
            domain=data.get("domain", ""),
            description=data.get("description", ""),
            graph_description=data.get("graph_description", ""),
            version=int(data.get("model_version") or 0),
            custom_metadata_map={
                key.removeprefix("custom:"): value for key, value in data.items() if key.startswith("custom:")
            },
        )

    def get_providers(self) -> list[str]:
        """Return onnxruntime's name for the CPU, the only provider."""
        return ["CPUExecutionProvider"]

    def get_provider_options(self) -> dict[str, dict[str, str]]:
        """Return no options for the only provider."""
        return {"CPUExecutionProvider": {}}

    def set_providers(self, providers: Sequence[Any] | None = None, provider_options: Any = None) -> None:
        """Do nothing but warn of providers that are not available: everything runs on the CPU."""
        warn_of_unavailable(providers)

    def get_session_options(self) -> SessionOptions:
        """Return the options of this session."""
        return self._options

    def disable_fallback(self) -> None:
        """Do nothing: there is no other provider to fall back to."""

    def enable_fallback(self) -> None:
        """Do nothing: there is no other provider to fall back to."""

    def end_profiling(self) -> str:
        """Write the profile of the runs so far and return its path; "" if there is none (`enable_profiling`)."""
        profile, self._profile = self._profile, None
        return "" if profile is None else profile.write()

    def get_profiling_start_time_ns(self) -> int:
        """Return when profiling began, in ns; 0 without profiling."""
        return 0 if self._profile is None else self._profile.start_ns

    # -- private names of onnxruntime -----------------------------------------------------

    @property
    def _sess(self) -> Any:
        return self

    @property
    def _model_path(self) -> Any:
        return None if self._model_bytes is not None else self._given[0]

    @property
    def _model_bytes(self) -> Any:
        return None if isinstance(self._given[0], str) or hasattr(self._given[0], "__fspath__") else self._given[0]

    @property
    def _sess_options(self) -> SessionOptions:
        return self._options

    @property
    def _sess_options_initial(self) -> SessionOptions | None:
        return self._given[1]

    @property
    def _providers(self) -> list[str]:
        return self.get_providers()

    @property
    def _provider_options(self) -> dict[str, dict[str, str]]:
        return self.get_provider_options()

    @property
    def _inputs_meta(self) -> list[NodeArg]:
        return self.get_inputs()

    @property
    def _outputs_meta(self) -> list[NodeArg]:
        return self.get_outputs()

    @property
    def _overridable_initializers(self) -> list[NodeArg]:
        return self.get_overridable_initializers()

    @property
    def _model_meta(self) -> ModelMetadata:
        return self.get_modelmeta()

    @property
    def _profiling_start_time_ns(self) -> int:
        return self.get_profiling_start_time_ns()


def _node_arg(value: Value, name: str) -> NodeArg:
    return NodeArg(name, value.type or "", list(value.shape or ()))

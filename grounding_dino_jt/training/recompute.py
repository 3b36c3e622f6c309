"""Activation checkpointing: recomputation in the backward pass (Chen et al. 2016, 1604.06174)."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from ovd_bench.grounding_dino_jt.layers import drawing, drawn_by
from ovd_bench.grounding_dino_jt.model import GroundingDino
from ovd_bench.kernels.bases import Function, Module, gradients_once
from ovd_bench.kernels.release_memory import release_memory
from ovd_bench.kernels.runtime import jittor

jt = jittor()


def recompute_layers(network: GroundingDino) -> None:
    """Make training keep only inputs and outputs of each block of the backbone and layer of encoder and decoder.

    Loss and gradients stay the same, except for the order of sums in fused loops.
    """
    encoder, decoder = network.transformer.encoder, network.transformer.decoder
    blocks = [block for stage in network.backbone[0].layers for block in stage.blocks]
    for name in ("layers", "text_layers", "fusion_layers"):
        blocks += list(getattr(encoder, name, []))
    for block in (*blocks, *decoder.layers):
        block.execute = _Block(block, block.execute)


@dataclasses.dataclass(frozen=True)
class _Block:
    """``execute`` of a module, recomputed in training.

    Attributes:
        module: for its parameters.
        plain: its ``execute``.
    """

    module: Module
    plain: Callable[..., Any]

    def __call__(self, *arguments: Any) -> Any:
        inputs = [value for value in _variables(arguments) if not value.is_stop_grad()]
        parameters = [value for value in self.module.parameters() if not value.is_stop_grad()]
        if not self.module.is_training() or not inputs + parameters:
            return self.plain(*arguments)

        def run(given: Sequence[Any]) -> Any:
            """The block with ``inputs`` replaced by other variables."""
            replaced = {id(old): new for old, new in zip(inputs, given, strict=True)}
            return self.plain(*(_with(argument, replaced) for argument in arguments))

        return _Recomputed.apply(run, parameters, *inputs, *parameters)


class _Recomputed(Function):
    """``run(inputs)``, which also depends on parameters.

    The parameters are passed twice: as variables that get gradients, which Jittor replaces by placeholders, and in a
    list, as ``run`` uses them.
    """

    def execute(self, run: Callable[[Sequence[Any]], Any], parameters: list[Any], *variables: Any) -> Any:
        self.run, self.parameters_of_run = run, parameters
        self.given = variables[: len(variables) - len(parameters)]
        self.drawing = copy.deepcopy(drawing())
        with jt.no_grad():
            outputs = run(self.given)
        for output in _sequence(outputs):
            output.start_grad()
        return outputs

    def grad(self, *gradients: Any) -> tuple[Any, ...]:
        """Build the forward and backward pass.

        Jittor computes in the order of construction, so everything after this block has been computed by then.
        """
        inputs = [value.detach() for value in self.given]
        for value in inputs:
            value.start_grad()
        # detached, otherwise the backward pass would continue through the gradients
        weights = [None if gradient is None else release_memory(gradient.detach()) for gradient in gradients]
        with drawn_by(self.drawing):
            outputs = _sequence(self.run(inputs))
        total = sum((y * weight).sum() for y, weight in zip(outputs, weights, strict=True) if weight is not None)
        return (None, None, *gradients_once(total, [*inputs, *self.parameters_of_run]))


def _sequence(outputs: Any) -> Sequence[Any]:
    return outputs if isinstance(outputs, tuple | list) else (outputs,)


def _variables(part: Any) -> list[Any]:
    """Variables in tuples, lists and dataclasses, each once."""
    seen: dict[int, Any] = {}

    def visit(value: Any) -> None:
        if isinstance(value, jt.Var):
            seen[id(value)] = value
        elif isinstance(value, tuple | list):
            for member in value:
                visit(member)
        elif dataclasses.is_dataclass(value):
            for field in dataclasses.fields(value):
                visit(getattr(value, field.name))

    visit(part)
    return list(seen.values())


def _with(value: Any, replaced: dict[int, Any]) -> Any:
    """The same with other variables."""
    if isinstance(value, jt.Var):
        return replaced.get(id(value), value)
    if isinstance(value, tuple | list):
        return type(value)(_with(member, replaced) for member in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        changes = {field.name: _with(getattr(value, field.name), replaced) for field in dataclasses.fields(value)}
        return dataclasses.replace(value, **changes)
    return value

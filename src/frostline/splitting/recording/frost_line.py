"""The frost line of a model: which of its modules are frozen, trainable or mixed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from frostline.splitting.python_state.shared_state import SharedState

if TYPE_CHECKING:
    from torch import Tensor


class FrostLine:
    """The frost line as `requires_grad` draws it, looked up once before the runs."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.names = {id(module): name for name, module in model.named_modules()}
        self.parameters = dict(model.named_parameters())
        self.attributes = {id(tensor): name for name, tensor in model.named_buffers()}
        self.attributes |= {id(tensor): name for name, tensor in self.parameters.items()}
        self._frozen = {id(p) for p in self.parameters.values() if not p.requires_grad}
        self._kinds: dict[int, tuple[bool, bool]] = {}
        self._find_kinds(model)
        self.shared = SharedState(model)

    def name(self, module: nn.Module) -> str:
        """The qualified name of a registered module."""
        return self.names[id(module)]

    def has_frozen(self, module: nn.Module) -> bool:
        """True if some parameter in the subtree is frozen."""
        return self._kinds[id(module)][0]

    def has_trainable(self, module: nn.Module) -> bool:
        """True if some parameter in the subtree trains."""
        return self._kinds[id(module)][1]

    def is_mixed(self, module: nn.Module) -> bool:
        """True if the subtree holds both."""
        return all(self._kinds[id(module)])

    def is_trainable(self, module: nn.Module) -> bool:
        """True if every parameter in the subtree trains."""
        return self._kinds[id(module)] == (False, True)

    def is_frozen(self, module: nn.Module) -> bool:
        """True if the subtree has parameters, all frozen."""
        return self._kinds[id(module)] == (True, False)

    def is_frozen_parameter(self, tensor: Any) -> bool:
        """True for a frozen parameter of the model."""
        return id(tensor) in self._frozen

    def is_torch_leaf(self, module: nn.Module) -> bool:
        """True for torch's own layers without children: one call each in a graph."""
        is_torch = type(module).__module__.startswith("torch.nn")
        return is_torch and next(module.children(), None) is None

    def is_trainable_state(self, buffer: str) -> bool:
        """True for a buffer of the trainable part, for a counter of a mixed module, and for a trainable weight."""
        if buffer in self.parameters:
            return self.parameters[buffer].requires_grad
        owner = buffer
        while owner:
            owner = owner.rpartition(".")[0]
            module = self.model.get_submodule(owner)
            if self.has_frozen(module) or self.has_trainable(module):
                tensor = self.model.get_buffer(buffer)
                is_counter = tensor.dim() == 0 and not tensor.is_floating_point()
                return self.is_trainable(module) or (self.is_mixed(module) and is_counter)
        return False

    def buffer_slots(self) -> dict[str, Tensor]:
        """Every buffer now, by qualified name: a buffer replaced in forward shows as another tensor."""
        return {
            f"{prefix}.{name}" if prefix else name: buffer
            for prefix, module in self.model.named_modules()
            for name, buffer in module._buffers.items()
            if buffer is not None
        }

    def _find_kinds(self, module: nn.Module) -> tuple[bool, bool]:
        """Whether a module holds frozen and trainable parameters; each module of the subtree is looked at once."""
        known = self._kinds.get(id(module))
        if known is None:
            own = [id(parameter) in self._frozen for parameter in module._parameters.values() if parameter is not None]
            self._kinds[id(module)] = any(own), not all(own)  # a module may be inside of itself
            parts = [self._find_kinds(child) for child in module._modules.values() if child is not None]
            found = [self._kinds[id(module)], *parts]
            known = self._kinds[id(module)] = any(a for a, _ in found), any(b for _, b in found)
        return known

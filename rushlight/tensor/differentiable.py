"""What a tensor has to do with autograd: whether it requires grad, its gradient, hooks, where it came from, ``backward``."""
from __future__ import annotations

from typing import Any

from ..autograd import backward, count_backward
from ..autograd.apply import alias_of, value_of
from ..autograd.handle import LEAF, DataAlias, Handle, base_of, is_inference, watched_writes
from ..autograd.hooks import RemovableHandle, add, checked_gradient
from ..record.trace import local
from ..record.warn import warn

__all__ = ["Differentiable"]


class Differentiable(Handle):
    """The part of ``Tensor`` that autograd is about."""

    __slots__ = ()

    @property
    def requires_grad(self) -> bool:
        if self._edge is None and self._alias is not None:
            value_of(self)  # its memory may have been written with what wants a gradient
        return self._edge is not None

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if not isinstance(value, bool):
            raise RuntimeError("requires_grad must be a bool")
        self.requires_grad_(value)

    def requires_grad_(self, requires_grad: bool = True) -> Any:
        """Let autograd record operations on this leaf (or no longer).

        Raises:
            RuntimeError: not a leaf, or not a floating tensor.
        """
        if requires_grad:
            if self.dtype.kind not in "fc":
                raise RuntimeError("only Tensors of floating point dtype can require gradients")
            if self._edge is None:
                if is_inference(self) and not local.trace.inference:
                    raise RuntimeError("Setting requires_grad=True on inference tensor outside InferenceMode is not allowed.")
                self._edge = LEAF
        elif self._edge is not LEAF and self._edge is not None:
            raise RuntimeError("you can only change requires_grad flags of leaf variables. If you want to use a computed variable in a "
                               "subgraph that doesn't require differentiation use var_no_grad = var.detach().")
        else:
            self._edge = None
        return self

    @property
    def is_leaf(self) -> bool:
        return not self.requires_grad or self._edge is LEAF

    @property
    def grad_fn(self) -> Any:
        value_of(self)
        edge = self._edge
        return None if edge is None or edge is LEAF else (edge[0] if type(edge) is tuple else edge).shown()

    @property
    def output_nr(self) -> int:
        return self._edge[1] if type(self._edge) is tuple else 0

    @property
    def grad(self) -> Any:
        edge = self._edge
        if edge is LEAF or edge is None:
            return self._grad
        more = self._more
        if more is not None and "kept_grad" in more:
            return more["kept_grad"]
        if self._grad is None:
            warn("The .grad attribute of a Tensor that is not a leaf Tensor is being accessed. Its .grad attribute won't be populated "
                 "during autograd.backward(). If you indeed want the .grad field to be populated for a non-leaf Tensor, use "
                 ".retain_grad() on the non-leaf Tensor. If you access the non-leaf Tensor by mistake, make sure you access the leaf "
                 "Tensor instead.", UserWarning)
        return self._grad

    @grad.setter
    def grad(self, value: Any) -> None:
        if value is not None:
            if not isinstance(value, Handle):
                raise TypeError(f"assigned grad expected to be a Tensor or None but got grad of type {type(value).__name__}")
            if value is self:
                raise RuntimeError("can't assign Variable as its own grad")
            if value.dtype is not self.dtype:
                raise RuntimeError(f"attempting to assign a gradient with dtype {value.dtype} to a tensor of dtype {self.dtype}")
            if value.shape != self.shape:
                raise RuntimeError(f"assigned grad has data of a different size: {list(value.shape)} for a tensor of {list(self.shape)}")
        if self._more is not None and "kept_grad" in self._more:
            self._more["kept_grad"] = value
        self._grad = value

    @grad.deleter
    def grad(self) -> None:
        self._grad = None

    def retain_grad(self) -> None:
        """Keep the gradient of a tensor that is not a leaf in its ``grad``."""
        if not self.requires_grad:
            raise RuntimeError("can't retain_grad on Tensor that has requires_grad=False")
        if self._edge is LEAF or self._more is not None and "kept_grad" in self._more:
            return
        self._extra()["kept_grad"] = None
        self._keep_grad()

    def _keep_grad(self) -> None:
        """Keep the gradient of what led to the content of today; called again when that was written in place."""
        import weakref

        me = weakref.ref(self)

        def keep(grad: Any) -> None:
            t = me()
            if t is not None:
                t._more["kept_grad"] = grad.detach() if t._more["kept_grad"] is None else t._more["kept_grad"] + grad  # type: ignore[index]
        more = self._extra()
        if "keeper" in more:
            more["keeper"].remove()
        more["keeper"] = self._hook_before(keep, keeps=True)

    @property
    def retains_grad(self) -> bool:
        return self._more is not None and "kept_grad" in self._more

    def _extra(self) -> dict[str, Any]:
        if self._more is None:
            self._more = {}
        return self._more

    def register_hook(self, hook: Any) -> RemovableHandle:
        """``hook(grad) -> grad or None`` runs when the gradient of this tensor is known.

        Raises:
            RuntimeError: the tensor does not require grad.
        """
        if not self.requires_grad:
            raise RuntimeError("cannot register a hook on a tensor that doesn't require gradient")
        if self._edge is LEAF:
            return add(self._extra().setdefault("hooks", {}), hook)
        return self._hook_before(hook)

    def _hook_before(self, hook: Any, keeps: bool = False) -> RemovableHandle:
        """Let the node that made this tensor call a hook of it first."""
        node, nr = self._edge if type(self._edge) is tuple else (self._edge, 0)

        def on_node(grads: tuple[Any, ...]) -> Any:
            changed = None if grads[nr] is None else checked_gradient(hook(grads[nr]), grads[nr], hook)
            return None if changed is None else (*grads[:nr], changed, *grads[nr + 1:])
        return node.register_tensor_hook(on_node, keeps)  # type: ignore[no-any-return]

    def register_post_accumulate_grad_hook(self, hook: Any) -> RemovableHandle:
        """``hook(tensor)`` runs after a gradient was added to ``tensor.grad``."""
        if self._edge is not LEAF:
            raise RuntimeError("post accumulate grad hooks cannot be registered on non-leaf tensors")
        return add(self._extra().setdefault("post_hooks", {}), hook)

    def backward(self, gradient: Any = None, retain_graph: bool | None = None, create_graph: bool = False, inputs: Any = None) -> None:
        """Add the gradient of this tensor to ``grad`` of the leaves that it was computed from."""
        if gradient is None and inputs is None and not create_graph:
            tr = local.trace
            recipe = tr.node.backward
            if recipe is not None and recipe.step(tr, self, retain_graph, recipe.facts):
                return count_backward(tr)  # the same graph as before, from the same point of the trace
        backward(self, gradient, retain_graph, create_graph, inputs=inputs)

    def detach(self) -> Any:
        """The same memory, cut from the graph."""
        return alias_of(self)

    def detach_(self) -> Any:
        """Cut this tensor from the graph.

        Raises:
            RuntimeError: it is a view, whose history is that of what it is a view of.
        """
        if self._is_view():
            raise RuntimeError("Can't detach views in-place. Use detach() instead.")
        self._edge = None
        base = None if self._alias is None else base_of(self._alias)
        if base is not None:  # what this tensor was before it was reshaped in place
            base._edge = None
        return self

    @property
    def data(self) -> Any:
        return alias_of(self, kind=DataAlias)

    @data.setter
    def data(self, other: Any) -> None:
        if not isinstance(other, Handle):
            raise TypeError(f"Variable data has to be a tensor, but got {type(other).__name__}")
        fresh = alias_of(other)
        self._value, self._alias = fresh._value, fresh._alias

    @property
    def _version(self) -> int:
        """How often the memory was written in place, through this tensor or another (not through its ``data``)."""
        if is_inference(self):
            raise RuntimeError("Inference tensors do not track version counter.")
        return self._writes if self._alias is None else watched_writes(self._alias)

    def _is_view(self) -> bool:
        return self._base is not None

    @property
    def _base(self) -> Any:
        """The tensor that this is a view of, which is none itself; else None."""
        base = None if self._alias is None else base_of(self._alias)
        now = None if base is None or base._more is None else base._more.get("now")
        return base if now is None or now() is None else None if now() is self else now()

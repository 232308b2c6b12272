"""TorchScript source: read as Python, refused where it is anything else than calls, loops and branches, and compiled.

A file must not be able to run what it likes. So a name is a local variable or one of the table, an attribute is one that a class of the
archive declares, and there are no builtins.
"""
from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

__all__ = ["Unit", "translated"]

_PLAIN = (ast.Return, ast.If, ast.For, ast.While, ast.Pass, ast.Expr, ast.Tuple, ast.List, ast.Dict, ast.Constant, ast.Load, ast.Store,
          ast.UnaryOp, ast.USub, ast.Break, ast.Continue, ast.ListComp, ast.comprehension, ast.keyword, ast.Starred)
_KNOWN = frozenset(("range", "bool", "int", "float", "str", "list"))


class Unit:
    """One source file: its functions, and its classes with methods, declared names and constants."""

    def __init__(self, text: str, where: str) -> None:
        self.functions: dict[str, ast.FunctionDef] = {}
        self.classes: dict[str, dict[str, Any]] = {}
        try:
            tree = ast.parse(text, where)
        except SyntaxError as e:
            raise RuntimeError(f"{where} of the archive is no TorchScript: {e}") from e
        for node in tree.body:
            if isinstance(node, ast.FunctionDef):
                self.functions[node.name] = node
            elif isinstance(node, ast.ClassDef):
                self.classes[node.name] = _class(node)


def _class(node: ast.ClassDef) -> dict[str, Any]:
    found: dict[str, Any] = {"bases": [ast.unparse(b) for b in node.bases], "methods": {}, "names": [], "constants": {},
                             "__parameters__": [], "__buffers__": []}
    for item in node.body:
        if isinstance(item, ast.FunctionDef):
            found["methods"][item.name] = item
        elif isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            found["names"].append(item.target.id)
            if item.value is not None:
                found["constants"][item.target.id] = _constant(item.value)
        elif isinstance(item, ast.Assign):
            target = item.targets[0]
            if isinstance(target, ast.Name) and target.id in ("__parameters__", "__buffers__"):
                found[target.id] = ast.literal_eval(item.value)
            elif isinstance(target, ast.Subscript):  # __annotations__["0"]: a name that is none in Python
                found["names"].append(ast.literal_eval(target.slice))
    return found


def _constant(node: ast.expr) -> Any:
    """What is written behind a name that never changes."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "annotate":
        node = node.args[1]
    if isinstance(node, ast.Name) and node.id in ("inf", "nan"):
        return float(node.id)
    return ast.literal_eval(node)


class _Safe(ast.NodeTransformer):
    """Replaces names by what the table says, and attributes by asking for them."""

    def __init__(self, op: Callable[[str], Any]) -> None:
        self.op = op
        self.bound: dict[str, Any] = {}

    def visit(self, node: ast.AST) -> Any:
        special = getattr(self, f"visit_{type(node).__name__}", None)
        if special is not None:
            return special(node)
        if not isinstance(node, _PLAIN):
            raise RuntimeError(f"TorchScript with a {type(node).__name__} in line {getattr(node, 'lineno', '?')} cannot be read")
        return self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> Any:
        for a in (*node.args.args, *node.args.kwonlyargs):
            a.annotation = None
            self._named(a.arg)
        node.returns, node.decorator_list = None, []
        node.args.defaults = [self.visit(d) for d in node.args.defaults]
        node.body = [self.visit(s) for s in node.body]
        node.name = "function"
        return node

    def _named(self, name: str) -> None:
        if name.startswith("__"):
            raise RuntimeError(f"TorchScript with the name {name} cannot be read")

    def _bind(self, value: Any, node: ast.AST) -> Any:
        name = f"__bound{len(self.bound)}"
        self.bound[name] = value
        return ast.copy_location(ast.Name(name, ast.Load()), node)

    def visit_Name(self, node: ast.Name) -> Any:
        self._named(node.id)
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> Any:
        assert node.value is not None
        return self.visit(ast.copy_location(ast.Assign([node.target], node.value), node))

    def visit_Assign(self, node: ast.Assign) -> Any:
        target = node.targets[0]
        if isinstance(target, ast.Attribute):
            call = ast.Call(self._bind(self.op("prim.SetAttr"), node), [self.visit(target.value), ast.Constant(target.attr),
                                                                        self.visit(node.value)], [])
            return ast.copy_location(ast.Expr(call), node)
        node.targets, node.value = [self.visit(t) for t in node.targets], self.visit(node.value)
        return node

    def visit_Subscript(self, node: ast.Subscript) -> Any:
        call = ast.Call(self._bind(self.op("aten.__getitem__"), node), [self.visit(node.value), self.visit(node.slice)], [])
        return ast.copy_location(call, node)

    def visit_Attribute(self, node: ast.Attribute) -> Any:
        path, at = [node.attr], node.value
        while isinstance(at, ast.Attribute):
            path.insert(0, at.attr)
            at = at.value
        if isinstance(at, ast.Name) and at.id in ("torch", "ops", "CONSTANTS", "__torch__"):
            if at.id == "torch":
                path.insert(0, "aten")
            elif at.id != "ops":
                path.insert(0, at.id)
            return self._bind(self.op(".".join(path)), node)
        call = ast.Call(self._bind(self.op("prim.GetAttr"), node), [self.visit(node.value), ast.Constant(node.attr)], [])
        return ast.copy_location(call, node)

    def visit_Call(self, node: ast.Call) -> Any:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name in ("annotate", "unchecked_cast"):  # a type, and the value
            return self.visit(node.args[1])
        if name == "uninitialized":
            return ast.copy_location(ast.Constant(None), node)
        if name == "getattr":
            if not (len(node.args) == 2 and isinstance(node.args[1], ast.Constant)):
                raise RuntimeError("TorchScript with an attribute whose name is computed cannot be read")
            func: Any = self._bind(self.op("prim.GetAttr"), node)
        elif name in _KNOWN:
            func = self._bind(self.op(f"builtins.{name}"), node)
        else:
            func = self.visit(node.func)
        made = ast.Call(func, [self.visit(a) for a in node.args], [self.visit(k) for k in node.keywords])
        return ast.copy_location(made, node)


def translated(node: ast.FunctionDef, op: Callable[[str], Any], where: str) -> Callable[..., Any]:
    """A function of TorchScript as one of Python; ``op`` gives what a name of the table stands for."""
    safe = _Safe(op)
    tree = ast.fix_missing_locations(ast.Module([safe.visit(node)], []))
    scope = {"__builtins__": {}, "inf": float("inf"), "nan": float("nan"), **safe.bound}
    exec(compile(tree, where, "exec"), scope)
    return scope["function"]  # type: ignore[no-any-return]

"""Graphs of what modules and functions do: traced, looked at, changed, and run as modules again. Laid out as ``torch.fx``.

This is for programs that transform programs. What Rushlight compiles is found without it.

Example:
    >>> traced = rushlight.fx.symbolic_trace(lambda x: torch.relu(x) + 1)
    >>> print(traced.graph)
    graph():
        %x : [num_users=1] = placeholder[target=x]
        %relu : [num_users=1] = call_function[target=torch.relu](args = (%x,), kwargs = {})
        %add : [num_users=1] = call_function[target=operator.add](args = (%relu, 1), kwargs = {})
        return add
"""
from . import graph, graph_module, immutable_collections, interpreter, node, proxy, subgraph_rewriter
from ._symbolic_trace import PH, Tracer, symbolic_trace, wrap
from .graph import Graph
from .graph_module import GraphModule
from .interpreter import Interpreter, Transformer
from .node import Node, has_side_effect, map_arg
from .proxy import Proxy
from .subgraph_rewriter import replace_pattern

__all__ = ["Graph", "GraphModule", "Interpreter", "Node", "PH", "Proxy", "Tracer", "Transformer", "graph", "graph_module",
           "has_side_effect", "immutable_collections", "interpreter", "map_arg", "node", "proxy", "replace_pattern",
           "subgraph_rewriter", "symbolic_trace", "wrap"]

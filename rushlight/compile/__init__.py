"""The compiler: Graph, passes, fusion, LoopNest and Contraction, memory plan, Program, cache.

It knows nothing of tensors or of the operations' names: operations lower themselves to the primitives of ``graph``.
"""

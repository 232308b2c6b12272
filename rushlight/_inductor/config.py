"""Switches of PyTorch's compiler: what programs set is kept, and changes nothing."""
from types import SimpleNamespace

coordinate_descent_tuning = False
coordinate_descent_check_all_directions = False
epilogue_fusion = True
fx_graph_cache = True
force_fuse_int_mm_with_mul = False
freezing = False
max_autotune = False
max_autotune_gemm_backends = "ATEN,TRITON,CPP"
conv_1x1_as_mm = False
shape_padding = True
use_mixed_mm = True
split_reductions = True
benchmark_kernel = False
compile_threads = 1
cpp_wrapper = False
debug = False
size_asserts = True
cpp = SimpleNamespace(threads=-1, simdlen=None, enable_kernel_profile=False, weight_prepack=True)
triton = SimpleNamespace(cudagraphs=False, cudagraph_trees=True, unique_kernel_names=True, autotune_at_compile_time=None)
trace = SimpleNamespace(enabled=False, graph_diagram=False)

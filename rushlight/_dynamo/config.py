"""Switches of what traces programs for ``torch.compile``: what programs set is kept, and changes nothing."""

suppress_errors = False
verbose = False
cache_size_limit = 8
recompile_limit = 8
accumulated_cache_size_limit = 256
capture_scalar_outputs = False
capture_dynamic_output_shape_ops = False
optimize_ddp = True
assume_static_by_default = True
automatic_dynamic_shapes = True
skip_fwd_side_effects_in_bwd_under_checkpoint = False

"""Networks, one a file, in plain PyTorch.

Each takes images in [0, 1] and answers images in [0, 1], (N, C, H, W), and states

- `scale`: how many output pixels a side come from one input pixel,
- `stride`: input sides are handled in multiples of this,
- `receptive_field`: how many input pixels a side one output pixel depends on; None where it depends on
  all of them.
"""

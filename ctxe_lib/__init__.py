"""Library of the companion to "A context encoder for audio inpainting" (Marafioti et al., 2019)."""

import os

from ctxe_lib.geometry import Geometry
from ctxe_lib.quiet import quiet_import

__all__ = ["Geometry"]
__version__ = "0.1.0"

# Read by TensorFlow when it is imported. By itself it leaves oneDNN's kernels, which these networks are faster with, to
# processors with instructions for neural networks (AVX512-VNNI and later).
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
quiet_import()

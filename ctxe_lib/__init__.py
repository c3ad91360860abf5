"""Library of the companion to "A context encoder for audio inpainting" (Marafioti et al., 2019)."""

from ctxe_lib.geometry import Geometry
from ctxe_lib.quiet import quiet_import

__all__ = ["Geometry"]
__version__ = "0.1.0"

quiet_import()

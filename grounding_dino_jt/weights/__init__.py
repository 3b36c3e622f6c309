"""Weights of Grounding DINO: a canonical layout, converted from and to the layouts of other projects.

Importing this imports no framework; torch is imported when a ``.pth`` file is read or written.
"""

from ovd_bench.grounding_dino_jt.weights.backbones import draw_backbone, read_backbone, tensors_sha256
from ovd_bench.grounding_dino_jt.weights.errors import WeightsError
from ovd_bench.grounding_dino_jt.weights.read import Checkpoint, read_checkpoint, read_weights
from ovd_bench.grounding_dino_jt.weights.shapes import expected_shapes, parameter_count
from ovd_bench.grounding_dino_jt.weights.text_encoders import read_text_encoder
from ovd_bench.grounding_dino_jt.weights.write import write_canonical, write_hf, write_official

__all__ = [
    "WeightsError",
    "Checkpoint",
    "read_checkpoint",
    "read_weights",
    "read_text_encoder",
    "read_backbone",
    "draw_backbone",
    "tensors_sha256",
    "expected_shapes",
    "parameter_count",
    "write_canonical",
    "write_hf",
    "write_official",
]

import numpy as np
import pytest
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, quants

from frostline.porting.readers.gguf_blocks import BLOCK_TYPES


@pytest.mark.parametrize("number", BLOCK_TYPES)
def test_blocks_are_what_the_package_gguf_makes_of_them(number):
    block, kind = BLOCK_TYPES[number], GGMLQuantizationType(number)
    assert (block.name, (block.elements, block.size)) == (kind.name, GGML_QUANT_SIZES[kind])
    raw = np.random.default_rng(number).integers(0, 256, (500, block.size), dtype=np.uint8)
    with np.errstate(all="ignore"):
        ours, theirs = block.unpack(raw), quants.dequantize(raw, kind)
    assert ours.dtype == np.float32
    assert np.array_equal(ours, theirs.reshape(500, -1), equal_nan=True)
    assert np.isfinite(ours).mean() > 0.9

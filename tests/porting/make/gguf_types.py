"""Write the files of GGUF that the tests read, with the package `gguf`, and beside each the arrays as it sees them.

Needs gguf 0.19.0 and numpy:

    python tests/porting/make/gguf_types.py
"""

from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter, dequantize, quantize

FOLDER = Path(__file__).parents[1] / "files" / "gguf"
PLAIN = ("float32", "float16", "float64", "int8", "int16", "int32", "int64")
QUANTISED = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "BF16")


def main() -> None:
    """Write one file with a tensor of each type that the package can quantise to."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    writer = GGUFWriter(FOLDER / "types.gguf", "llama")
    writer.add_name("small")
    writer.add_array("tokenizer.ggml.tokens", ["a", "b", "c"])
    writer.add_array("tokenizer.ggml.scores", [0.5, 1.5])
    writer.add_head_count(2)
    for name in PLAIN:
        writer.add_tensor(f"blk.0.{name}.weight", (rng.normal(size=(2, 3)) * 10).astype(name))
    for name in QUANTISED:
        kind = GGMLQuantizationType[name]
        raw = quantize(rng.normal(size=(2, 64)).astype(np.float32), kind)
        writer.add_tensor(f"blk.1.{name}.weight", raw, raw_dtype=kind)
    writer.add_tensor("blk.1.attn_q.weight", rng.normal(size=(4, 4)).astype(np.float32))
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()
    arrays = {}
    for tensor in GGUFReader(FOLDER / "types.gguf").tensors:
        is_plain = tensor.tensor_type.name[0] in "FI" and tensor.tensor_type.name != "F16"
        values = (
            tensor.data if is_plain or tensor.tensor_type.name == "F16" else dequantize(tensor.data, tensor.tensor_type)
        )
        arrays[tensor.name] = values.reshape(tuple(reversed(tensor.shape.tolist())))
    np.savez(FOLDER / "types.npz", **arrays)


if __name__ == "__main__":
    main()

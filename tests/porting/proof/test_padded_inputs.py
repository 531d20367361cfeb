import torch
from torch import nn

from frostline.porting.certificate import Check
from frostline.porting.interpreter.network import interpret
from frostline.porting.interpreter.random_inputs import samples
from frostline.porting.proof.padded_inputs import with_padding
from frostline.porting.proof.reference import Reference, forms_of
from helpers_interpreting import floats, network

TABLE = floats(6, 3)
CHECKS = (Check("words", "mask_zero", "unknown", "..."), Check("words", "other", "agrees", "..."))


def source():
    return network(
        ("ids", "InputLayer", {"batch_shape": [None, 4], "dtype": "int32"}, ()),
        ("words", "Embedding", {"input_dim": 6, "output_dim": 3, "mask_zero": True}, ("ids",)),
        ("mean", "GlobalAveragePooling1D", {}, ("words",)),
        words__embeddings=TABLE,
    )


class Mean(nn.Module):
    def __init__(self, leaves_out):
        super().__init__()
        self.table, self.leaves_out = nn.Parameter(TABLE.clone()), leaves_out

    def forward(self, ids):
        counts = (ids != 0 if self.leaves_out else ids == ids).unsqueeze(-1)
        return (self.table[ids] * counts).sum(1) / counts.sum(1)


def checked(leaves_out):
    network_, model = source(), Mean(leaves_out)
    inputs = samples(network_)
    goldens = tuple(forms_of(network_, model, inputs, interpret(network_, inputs)))
    assert goldens
    return with_padding(CHECKS, Reference(network_, goldens, inputs), model)


def test_a_module_that_leaves_padding_out_agrees():
    settled, other = checked(leaves_out=True)
    assert settled.status == "agrees"
    assert "inputs that end in padding give the same outputs" in settled.text
    assert other == CHECKS[1]


def test_a_module_that_computes_with_padding_differs_and_the_remedy_is_named():
    settled, _ = checked(leaves_out=False)
    assert settled.status == "differs"
    assert "the module computes with padded steps" in settled.text
    assert "--scaffold" in settled.text


def test_what_was_not_run_stays_unknown():
    assert with_padding(CHECKS, Reference(source()), Mean(True)) == CHECKS
    assert with_padding(CHECKS[1:], Reference(source()), Mean(True)) == CHECKS[1:]
    assert torch.equal(TABLE, floats(6, 3))

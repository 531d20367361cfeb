import torch
from torch import nn

from frostline.porting.plan.execution import carry_out
from frostline.porting.plan.port_plan import make_plan
from frostline.porting.proof.record import certificate_of
from frostline.porting.proof.reference import Reference
from helpers_porting import numbers, source_of


def test_every_tensor_is_listed_and_conversions_are_counted():
    source = source_of("keras", {"u": {"kernel": numbers(3, 2), "bias": numbers(2)}})
    model = nn.Sequential(nn.Linear(3, 2).half())
    plan = make_plan(source, "net.h5", model)
    carry_out(plan, model)
    made = certificate_of(plan, Reference(source, (), notes=("nothing was run",)), model, (), ())
    assert [(one.target, one.sources, one.unit) for one in made.mapping] == [
        ("0.weight", ("u/kernel",), "u"), ("0.bias", ("u/bias",), "u"),
    ]  # fmt: skip
    assert made.notes == ("2 tensors converted from float32 to float16", "nothing was run")
    assert "2 were then converted" in made.proven
    assert made.mapping[0].sha256 != made.mapping[1].sha256
    model[0].weight.data += 1
    again = certificate_of(plan, Reference(source, ()), model, (), ())
    assert again.mapping[0].sha256 != made.mapping[0].sha256
    assert torch.isfinite(model[0].weight).all()

import pytest
import torch
from torch import Tensor, nn

from frostline.splitting.python_state.scripts import UnreadableScript, script_text

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")


class Inner(nn.Module):
    def __init__(self, scale: float, weight: float, table: float) -> None:
        super().__init__()
        self.scale, self.plain = scale, torch.full((500,), table)
        self.weight = nn.Parameter(torch.tensor([weight]), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale * self.weight + self.plain.sum()


class Outer(nn.Module):
    def __init__(self, **values: float) -> None:
        super().__init__()
        self.inner = Inner(**{"scale": 1.0, "weight": 1.0, "table": 1.0, **values})

    def forward(self, x: Tensor) -> Tensor:
        if bool(x.sum() > 0):
            return self.inner(x)
        return x


@pytest.mark.parametrize("name", ["scale", "weight", "table"])
def test_a_scripted_module_is_known_by_all_that_it_reads(name):
    assert script_text(torch.jit.script(Outer())) == script_text(torch.jit.script(Outer()))
    assert script_text(torch.jit.script(Outer())) != script_text(torch.jit.script(Outer(**{name: 2.0})))


def test_a_traced_function_is_known_by_its_constants():
    def traced(value):
        large = torch.zeros(2000)
        large[1000] = value
        return torch.jit.trace(lambda x: x * large, torch.ones(2000))

    assert script_text(traced(1.0)) == script_text(traced(1.0)) != script_text(traced(2.0))


def test_two_scripts_that_compute_otherwise_have_two_texts():
    def twice(x: Tensor) -> Tensor:
        return x * 2

    def thrice(x: Tensor) -> Tensor:
        return x * 3

    assert script_text(torch.jit.script(twice)) != script_text(torch.jit.script(thrice))


def test_a_script_that_calls_python_has_no_text():
    class Ignoring(nn.Module):
        @torch.jit.ignore
        def hidden(self, x: Tensor) -> Tensor:
            return x * 2

        def forward(self, x: Tensor) -> Tensor:
            return self.hidden(x)

    with pytest.raises(UnreadableScript, match="prim::PythonOp"):
        script_text(torch.jit.script(Ignoring()))

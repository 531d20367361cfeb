import pytest
import torch

from frostline.splitting.calls.grad_and_autocast import Region, current_region, enter_region, kept_region


def test_only_what_differs_is_kept_with_a_call():
    ambient = current_region()
    assert current_region().relative_to(ambient) == Region(None, None)
    with torch.no_grad():
        assert current_region().relative_to(ambient) == Region(False, None)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = current_region().relative_to(ambient)
    assert inside.gradients is None
    assert inside.autocast[0] == ("cpu", True, torch.bfloat16)


def test_a_region_is_entered_and_the_callers_comes_back_on_errors_too():
    ambient = current_region()
    change = Region(False, (("cpu", True, torch.bfloat16),))
    with pytest.raises(ZeroDivisionError), kept_region():
        enter_region(ambient, change)
        assert not torch.is_grad_enabled()
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
        raise ZeroDivisionError
    assert current_region() == ambient
    assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32

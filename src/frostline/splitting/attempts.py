"""`frostline.split`: attempts at a split, in order; the first that is proven to be the model is taken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from frostline.core.arguments import check_model
from frostline.core.doors import public
from frostline.core.errors import DataError, NotCacheable, SplitError
from frostline.core.layers import unwrapped
from frostline.splitting.failures import explained_failure
from frostline.splitting.graph_writer import UnknownValue
from frostline.splitting.module_calls import wrapped
from frostline.splitting.plan import record_plan
from frostline.splitting.refusals import check_example, check_line
from frostline.splitting.replay_plan import RECORDING_FAILS, first_proven
from frostline.splitting.samples import LARGE, batch_of, put_first
from frostline.splitting.split import Split, proven
from frostline.splitting.state import Traces
from frostline.splitting.uncached import kept_model

if TYPE_CHECKING:
    from torch import nn

    from frostline.splitting.proof_key import ProofMemory

# How often to record again because some sample of the example takes another path than those that were recorded.
_PATHS = 3
_READS = "values of the frozen part decide in Python what runs in the trainable part"


@public("split")
def split(model: nn.Module, example: Any) -> Split:
    """A model's frozen part and trainable part, found by running it, and proven to be the model.

    Args:
        model: Any module with frozen and trainable parameters (`frostline.freeze`), wrapped or not; left as it was.
        example: A batch as the model takes it: a tensor, a tuple or a mapping, two samples or more, on the
            model's device. At most four samples are used.

    Returns:
        The split; training `split.head` trains `model`.

    Raises:
        SplitError: If nothing or everything is frozen, a trainable value steers Python, sizes cannot be
            generalised, or the head does not equal the model.
        NotCacheable: If the frozen part is noisy, moves its own state, or does not follow the batch.
        DataError: If the example is too small, on another device, or does not fit `forward`.

    Example:
        >>> import torch, frostline as fl
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
        >>> summary = fl.freeze(model, through="1")
        >>> split = fl.split(model, torch.randn(4, 8))
        >>> [(tensor.name, tensor.shape) for tensor in split.frontier]
        [('1', (16,))]
        >>> x = torch.randn(5, 8)
        >>> torch.equal(split.head(*split.extract(x)), model(x))
        True
    """
    return remembered_split(model, example, None)


def remembered_split(model: nn.Module, example: Any, memory: ProofMemory | None) -> Split:
    """As `split`; a proof that is remembered is not made again, and one that holds is remembered."""
    check_model("split", model, needs=("shapes", "values"))
    model = unwrapped(model)[0]
    check_line(model)
    check_example(model, example)
    with Traces(model) as traces, kept_model(model), wrapped():
        made = _first_that_holds(model, example, memory)
    traces.check()
    return made


def _first_that_holds(model: nn.Module, example: Any, memory: ProofMemory | None) -> Split:
    """The split whose head is a graph, or else the one whose head runs the model's own forward."""
    failed: list[Exception] = []
    for is_whole in (True, False):
        try:
            return _split(model, example, memory, is_whole=is_whole)
        except DataError:
            raise
        except Exception as error:
            failed.append(error)
            if isinstance(error, NotCacheable) or not isinstance(error, (UnknownValue, SplitError)):
                break
    if all(isinstance(error, RECORDING_FAILS) for error in failed):
        found = _replayed(model, example, memory, failed[0])
        if found is not None:
            return found
    if isinstance(failed[-1], NotCacheable):
        raise failed[-1]
    raise explained_failure(model, batch_of(example, LARGE), failed)


def _replayed(
    model: nn.Module, example: Any, memory: ProofMemory | None, why: Exception | str, *, only_lean: bool = False
) -> Split | None:
    """The split whose head runs the model's own forward, if there is one that is proven."""
    return first_proven(
        lambda *made: proven(Split(model, *made), example, memory), model, example, why, only_lean=only_lean
    )


def _split(model: nn.Module, example: Any, memory: ProofMemory | None, *, is_whole: bool) -> Split:
    made = Split(model, *record_plan(model, example, is_whole=is_whole))
    for _ in range(_PATHS):  # the first samples may have no padding: those are recorded that take the general path
        at = made.telling_sample(example)
        if at is None:
            break
        example = put_first(example, at)
        made = Split(model, *record_plan(model, example, is_whole=is_whole))
    if made.num_guards:  # a head that reads the values itself holds for all of them
        other = _replayed(model, example, memory, _READS, only_lean=True)
        if other is not None and other.num_guards < made.num_guards:
            return other
    return proven(made, example, memory)

"""APC against the paper's loss, utterance by utterance; what it is compared with; what is refused."""

import pytest

from research.compose import compose_config
from research.errors import HarkError
from research.model import check
from tests.outputs import agree, scored
from tests.reference import apc


@pytest.mark.parametrize(("shift", "right"), [(1, 0), (3, 0), (2, 3)])
def test_loss_and_gradients_are_the_papers(shift, right):
    """Chunks of four frames hear three ahead."""
    chunks = [f"encoder.context=[-1,{right}]", "encoder.window=chunked"] if right else []
    model, loss, frames, leaves, _ = scored("apc", f"objective.shift={shift}", *chunks)
    assert model.encoder.ahead == right
    head, r = model.head, model.encoder.stride
    total, count = apc.loss(frames, leaves, head.weight, head.bias, stride=r, ahead=right, shift=shift)
    assert loss.count == count > 10
    agree(loss.total, total, [head.weight, head.bias, *leaves])


def test_what_guesses_without_learning_score():
    """To hold the last heard frame, and to say the mean of the utterance."""
    model, loss, frames, *_ = scored("apc", seconds=(0.9,))
    r, (x,) = model.encoder.stride, frames
    held = mean = 0.0
    for begin in range(r, len(x) - r + 1, r):
        held += sum(float((x[begin - 1] - x[begin + k]).abs().mean()) for k in range(r)) / r
        mean += sum(float((x.mean(0) - x[begin + k]).abs().mean()) for k in range(r)) / r
    assert loss.stats["hold_l1"].total == pytest.approx(held, rel=1e-4)
    assert loss.stats["mean_l1"].total == pytest.approx(mean, rel=1e-4)
    assert loss.stats["l1"].total == pytest.approx(loss.total.item(), rel=1e-6)


def test_an_utterance_of_one_piece_has_nothing_to_come():
    model, loss, frames, *_ = scored("apc", seconds=(0.1, 0.1))
    assert max(map(len, frames)) <= 2 * model.encoder.stride
    assert loss.count == 2 * (len(frames[0]) // model.encoder.stride - 1)


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        (["objective=apc"], "objective=apc: predicts what the encoder has not heard yet, .*encoder.convolutions=causal"),
        (["objective=nest_rq"], "objective=nest_rq: predicts what the encoder has not heard"),
        (["objective=apc", "encoder=fastconformer_tiny_causal", "objective.shift=0"], "objective.shift=0: is no frame"),
        (["objective=apc", "encoder=fastconformer_tiny_causal", "frontend=conv_wave"], "type frontend=log_mel_raw"),
        (["objective=tera", "frontend=conv_wave"], "objective=tera: reconstructs .* type frontend=log_mel"),
        (["objective=tera", "masking=none"], "learns from masked frames"),
        (["objective=apc", "encoder=fastconformer_tiny_causal", "masking=span"], "type masking=none"),
        (["objective=ctc", "quantizer=gumbel"], "type quantizer=none"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused(typed, says):
    with pytest.raises(HarkError, match=says):
        check(compose_config(typed).config)

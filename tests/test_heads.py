"""Aggregations, heads and criteria: against the papers, and by hand."""

import itertools
import math
from copy import deepcopy

import pytest
import torch
from torch.nn import functional as F

from plugins.aggregations.weighted_sum import WeightedSum
from plugins.criteria.aam import AAM
from plugins.criteria.cross_entropy import CrossEntropy
from plugins.criteria.ctc import CTC
from plugins.heads.linear import Linear
from research import registry
from research.contracts import Seq
from research.errors import HarkError
from research.nn.pooling import AttentiveStatistics, ContextStatistics
from research.nn.supervised import macro
from tests.reference import aam, pooling

registry.load_plugins()
LENGTHS = [7, 4, 1]


def layers(count=3, seed=0):
    source = torch.Generator().manual_seed(seed)
    return [torch.randn(2, 5, 4, generator=source) for _ in range(count)]


def aggregate(name, given, **changes):
    config = deepcopy(registry.config_of("aggregation", name))
    for key, value in changes.items():
        setattr(config, key, value)
    return registry.build(config, dim_in=4, layers=len(given))(given)


def frames(dim, lengths=LENGTHS, seed=0):
    x = torch.randn(len(lengths), max(lengths) + 2, dim, generator=torch.Generator().manual_seed(seed))
    return Seq(x, torch.tensor(lengths))


@pytest.mark.parametrize("name", ["weighted_sum", "weighted_sum_free", "mean"])
def test_layers_weigh_the_same_at_first(name):
    given = layers()
    assert torch.allclose(aggregate(name, given), sum(given) / 3, atol=1e-6)


@pytest.mark.parametrize("name", ["weighted_sum", "weighted_sum_free", "weighted_sum_norm"])
def test_weights_are_trained_while_the_encoder_is_frozen(name):
    plugin = registry.build(registry.config_of("aggregation", name), dim_in=4, layers=3)
    plugin(layers()).square().sum().backward()
    assert plugin.learned.requires_grad
    assert (plugin.learned.grad != 0).all()


def test_softmax_weights_sum_to_one_and_free_ones_are_as_learned():
    softmax = WeightedSum(WeightedSum.Config(), dim_in=4, layers=3)
    free = registry.build(registry.config_of("aggregation", "weighted_sum_free"), dim_in=4, layers=3)
    with torch.no_grad():
        for plugin in (softmax, free):
            plugin.learned.copy_(torch.tensor([0.0, -1.0, 2.0]))
    given = layers()
    assert math.isclose(softmax.weights.sum().item(), 1, abs_tol=1e-6)
    assert torch.allclose(free(given), 2 * given[2] - given[1], atol=1e-6)
    weights = torch.tensor([0.0, -1.0, 2.0]).softmax(0)
    assert torch.allclose(softmax(given), sum(w * x for w, x in zip(weights, given, strict=True)), atol=1e-6)


def test_the_scale_of_a_layer_counts_unless_it_is_normalised():
    given = layers()
    louder = [given[0] * 100, *given[1:]]
    assert torch.allclose(
        aggregate("weighted_sum_norm", given), aggregate("weighted_sum_norm", louder), atol=1e-3
    )
    assert not torch.allclose(aggregate("weighted_sum", given), aggregate("weighted_sum", louder), atol=1e-3)


def test_there_is_a_weight_for_every_layer_that_is_given():
    plugin = WeightedSum(WeightedSum.Config(), dim_in=4, layers=3)
    with pytest.raises(ValueError):
        plugin(layers(4))


def test_max_gives_a_tensor_and_no_pair():
    given = layers()
    assert torch.equal(aggregate("max", given), torch.stack(given).amax(0))


def test_concat_keeps_the_order_of_layers():
    given = layers()
    assert torch.equal(aggregate("concat", given)[..., 4:8], given[1])


def test_single_counts_from_either_end_and_refuses_what_is_not_there():
    given = layers()
    assert torch.equal(aggregate("single", given, layer=1), given[1])
    assert torch.equal(aggregate("single", given, layer=-3), given[0])
    assert torch.equal(aggregate("last", given), given[2])
    with pytest.raises(HarkError, match=r"aggregation.layer=3: there are 3 layers; choose 0 to 2"):
        aggregate("single", given, layer=3)


def test_linear_is_the_mean_of_the_projection():
    head, x = Linear(Linear.Config(dim=6), dim_in=4), frames(4)
    for row, length in enumerate(LENGTHS):
        assert torch.allclose(head(x).x[row, 0], head.proj(x.x[row, :length]).mean(0), atol=1e-6)


def gradients(value, of):
    return torch.autograd.grad((value * torch.arange(1, value.numel() + 1).view_as(value)).sum() / 100, of)


def agree(ours, theirs):
    for mine, slow in zip(ours, theirs, strict=True):
        assert (mine.double() - slow).detach().abs().max() < 1e-5


def test_attentive_statistics_are_those_of_the_paper():
    torch.manual_seed(0)
    pool, x = AttentiveStatistics(5, 3), frames(5, [7, 4, 3])
    given = [x.x.requires_grad_(), pool.hidden.weight, pool.hidden.bias, pool.score.weight]
    ours = pool(x.x, x.valid)
    exact = [value.detach().double().requires_grad_() for value in given]
    rows = [exact[0][row, :length] for row, length in enumerate([7, 4, 3])]
    theirs = pooling.attentive(rows, exact[1], exact[2], exact[3][0])
    agree([ours, *gradients(ours, given)], [theirs, *gradients(theirs, exact)])


def test_statistics_with_context_are_those_of_the_paper():
    torch.manual_seed(0)
    pool, x = ContextStatistics(5, 3).eval(), frames(5, [7, 4, 3])
    hidden = pool.hidden
    hidden.norm.running_mean.normal_()
    given = [x.x.requires_grad_(), hidden.conv.weight, hidden.conv.bias, pool.score.weight]
    ours = pool(x.x, x.valid)
    exact = [value.detach().double().requires_grad_() for value in given]
    rows = [exact[0][row, :length] for row, length in enumerate([7, 4, 3])]
    mean, scale = hidden.norm.running_mean.double(), (1 + hidden.norm.eps) ** -0.5

    def f(seen):
        return torch.tanh((torch.relu(exact[1][..., 0] @ seen + exact[2]) - mean) * scale)

    theirs = pooling.context(rows, f, exact[3])
    agree([ours, *gradients(ours, given)], [theirs, *gradients(theirs, exact)])


@pytest.mark.parametrize(
    ("name", "millions"), [("ecapa_tdnn", 6.2), ("ecapa_tdnn_nemo", 6.2), ("ecapa_tdnn_large", 14.7)]
)
def test_ecapa_has_the_papers_parameters(name, millions):
    with torch.device("meta"):
        head = registry.build(registry.config_of("head", name), dim_in=80)
    assert round(sum(p.numel() for p in head.parameters()) / 1e6, 1) == millions


def test_a_block_of_ecapa_reads_everything_before_it_or_the_last():
    config = registry.config_of("head", "ecapa_tdnn")
    small = {"channels": 16, "wide": 24, "scale": 4, "squeeze": 8, "attention": 8, "dim": 16}
    outs = []
    for reads in type(config.reads):
        torch.manual_seed(0)
        head = registry.build(type(config)(reads=reads, **small), dim_in=4).eval()
        seen = []
        head.blocks[-1].register_forward_hook(lambda _module, args, _out, seen=seen: seen.append(args[0]))
        fronts = [head.front, *head.blocks[:-1]]
        for part in fronts:
            part.register_forward_hook(lambda _module, _args, out, outs=outs: outs.append(out))
        outs.clear()
        head(frames(4))
        assert torch.allclose(seen[0], sum(outs) if reads.value == "all" else outs[-1], atol=1e-6)


@pytest.mark.parametrize(
    ("name", "changes", "says"),
    [
        ("ecapa_tdnn", {"scale": 7}, "head.scale=7: choose a divisor of head.channels=512"),
        ("ecapa_tdnn", {"kernels": [5, 3]}, "give as many of the one as of the other"),
        ("ecapa_tdnn", {"kernels": [4, 3, 3, 3]}, "must be odd"),
        ("titanet", {"first": 2}, "head.first=2"),
    ],
)
def test_a_head_that_cannot_be_is_refused(name, changes, says):
    config = type(registry.config_of("head", name))(**changes)
    with pytest.raises(HarkError, match=says):
        registry.build(config, dim_in=8)


def labels(rows):
    size = max(map(len, rows))
    padded = torch.tensor([row + [0] * (size - len(row)) for row in rows]).view(len(rows), size, 1)
    return Seq(padded, torch.tensor([len(row) for row in rows]))


def test_cross_entropy_is_summed_over_labels_and_counts_them():
    criterion, h = CrossEntropy(CrossEntropy.Config(), dim_in=4, classes=3), frames(4, [1, 1, 0])
    loss = criterion(h, labels([[2], [0], []]))
    wanted = F.cross_entropy(criterion.out(h.x[:2, 0]), torch.tensor([2, 0]), reduction="sum")
    assert loss.count == 2
    assert torch.allclose(loss.total, wanted)


def test_macro_accuracy_is_a_mean_over_the_classes_that_occurred():
    assert float(macro(torch.tensor([[3.0, 0.0, 0.0], [4.0, 1.0, 0.0]]))) == pytest.approx(0.375)
    criterion, h = CrossEntropy(CrossEntropy.Config(), dim_in=4, classes=3), frames(4, [3, 1, 1])
    given = criterion.scores(h).argmax(-1)
    right = given[0, :3].tolist()
    loss = criterion(h, labels([[right[0], right[1], (right[2] + 1) % 3], [int(given[1, 0])], []]))
    assert float(loss.stats["acc"].total) == 3
    assert float(loss.stats["error"].total) == 1
    hits, seen = loss.stats["macro_acc"].total
    assert (int(hits.sum()), int(seen.sum())) == (3, 4)


@pytest.mark.parametrize("margin", [0.0, 0.2, 0.5])
def test_the_angular_margin_is_that_of_the_paper(margin):
    torch.manual_seed(1)
    criterion = AAM(AAM.Config(scale=10, margin=margin), dim_in=5, classes=4)
    x = torch.randn(6, 5)
    x[5] = -criterion.weight[3].detach() + 0.05 * torch.randn(5)  # past half a turn with the margin
    targets = torch.tensor([0, 1, 2, 3, 0, 3])
    given = [x.requires_grad_(), criterion.weight]
    ours = criterion(
        Seq(x[:, None], torch.ones(6, dtype=torch.long)), labels([[k] for k in targets.tolist()])
    )
    exact = [value.detach().double().requires_grad_() for value in given]
    theirs = aam.loss(*exact, targets, 10, margin)
    agree([ours.total, *gradients(ours.total, given)], [theirs, *gradients(theirs, exact)])


def test_a_larger_angle_always_costs_more_and_the_gradient_stays_finite():
    criterion = AAM(AAM.Config(margin=0.3), dim_in=2, classes=2)
    with torch.no_grad():
        criterion.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    angles = torch.linspace(0, math.pi, 400)
    widened = criterion.widened(angles.cos())
    assert (widened.diff() < 0).all()
    x = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]], requires_grad=True)
    criterion(Seq(x[:, None], torch.ones(3, dtype=torch.long)), labels([[0], [0], [0]])).total.backward()
    assert torch.isfinite(x.grad).all()


def test_scores_of_a_margin_are_scaled_cosines():
    criterion, h = AAM(AAM.Config(), dim_in=4, classes=3), frames(4, [1, 1])
    wanted = 30 * F.cosine_similarity(h.x[:, :, None], criterion.weight, dim=-1)
    assert torch.allclose(criterion.scores(h), wanted, atol=1e-4)


def collapse(path, blank):
    return [k for k, _ in itertools.groupby(path) if k != blank]


def test_ctc_sums_over_every_path_and_the_blank_is_last():
    torch.manual_seed(0)
    criterion, h, tokens = CTC(CTC.Config(), dim_in=4, classes=2), frames(4, [4, 3]), [[0, 1], [1, 1]]
    logs = criterion.scores(h).log_softmax(-1)
    wanted = 0.0
    for row, (length, label) in enumerate(zip([4, 3], tokens, strict=True)):
        paths = [p for p in itertools.product(range(3), repeat=length) if collapse(p, 2) == label]
        sums = torch.stack([sum(logs[row, t, k] for t, k in enumerate(path)) for path in paths])
        wanted = wanted - torch.logsumexp(sums, 0)
    loss = criterion(h, labels(tokens))
    assert loss.count == 4
    assert torch.allclose(loss.total, wanted, atol=1e-5)


def test_rows_with_too_few_frames_have_no_loss_and_are_told():
    criterion = CTC(CTC.Config(), dim_in=4, classes=2)
    h = frames(4, [2, 3, 0])
    both = criterion(h, labels([[1, 1], [1, 1], []]))  # 1, blank, 1 takes three frames
    alone = criterion(Seq(h.x[1:2], h.lengths[1:2]), labels([[1, 1]]))
    assert torch.allclose(both.total, alone.total)
    assert both.stats["too_short"].total == 1
    assert both.stats["too_short"].weight == 3

"""Learning: every trained parameter moves, and the loss falls."""

from collections import Counter

from research.conformance.case import Case, speech
from research.conformance.rules import Broken
from research.conformance.tools import gradients, student, train
from research.training.optimizer import adamw
from research.training.seeds import seed_all
from research.training.validation import validate

STEPS = 30


def gradients_reach_every_parameter(case: Case) -> None:
    """Every trained parameter gets a gradient from every batch, and one that is not zero.

    What has no gradient is not trained, and several ranks wait for it for ever.
    """
    model = case.model()
    for seed in range(3):
        seed_all("gradients", seed)
        model(speech(model, seed=seed)).total.backward()
        for name, grad in gradients(model).items():
            if grad is None:
                raise Broken(
                    f"{name} is trained but the loss does not use it, and several ranks would wait for it for ever: "
                    "use it, or requires_grad=False"
                )
    for name, grad in gradients(model).items():
        if grad is not None and not grad.any():
            raise Broken(
                f"the gradient of {name} is zero in every batch, so it never moves: is it detached, or multiplied by 0?"
            )


def groups_cover_every_parameter(case: Case) -> None:
    """The optimizer's groups hold every trained parameter once, and nothing else.

    A parameter in no group is never trained, one in two groups twice.
    """
    model = case.model()
    names = {id(p): name for name, p in model.named_parameters() if p.requires_grad}
    groups = model.param_groups()
    found = Counter(id(p) for group in groups for p in group["params"])
    for key, name in names.items():
        if found[key] != 1:
            raise Broken(
                f"{name} is trained and in {found[key]} of the groups of param_groups(): put it in one"
            )
    if strays := found.keys() - names.keys():
        raise Broken(
            f"param_groups() holds {len(strays)} tensors that are no trained parameters of the objective: leave them out"
        )
    adamw(model, case.config().optimizer)
    for group in groups:
        if "lr_scale" in group and not isinstance(group["lr_scale"](0), int | float):
            raise Broken(
                "lr_scale of a group gives no number: make it a function of the step that gives a float"
            )


def loss_falls(case: Case) -> None:
    """Thirty steps on one batch make its loss lower.

    A detached loss, a wrong sign or targets of noise look like any other run for days.
    """
    model = case.model()
    batch = speech(model)
    it = student(model, case.config(f"train.steps={STEPS}"))
    before = validate(it, [(0, batch)])["loss"]
    train(it, [batch] * STEPS)
    after = validate(it, [(0, batch)])["loss"]
    if not after < before - 0.01 * abs(before):
        raise Broken(
            f"the loss of one batch was {before:.4g} before and is {after:.4g} after {STEPS} steps on it: nothing is "
            "learned; is the loss detached, its sign right, are the targets a function of the signal?"
        )

"""State: what is saved, when it moves, and that nothing else matters."""

import io

import torch

from research.conformance.case import Case, speech
from research.conformance.rules import Broken
from research.conformance.tools import moved, snapshot, student, train
from research.contracts import Plugin
from research.training import optimizer as optim
from research.training.validation import validate


def forward_moves_no_state(case: Case) -> None:
    """A forward and a backward pass change nothing that is saved, in training and in evaluation.

    Validation, a second micro-batch or a step that was skipped would move the model.
    """
    model = case.model()
    batch = speech(model)
    train(student(model, case.config()), [batch])  # else a teacher that follows is still where its student is
    before = snapshot(model)
    for mode in (True, False):
        model.train(mode)
        model(batch).total.backward()
        if keys := moved(before, snapshot(model)):
            when = "training" if mode else "evaluation"
            raise Broken(
                f"{keys[0]} is saved, and forward changes it in {when}: every micro-batch, validation and recomputed "
                "layer would count as a step; collect in a buffer with persistent=False, move in on_step_end"
            )


def validation_leaves_no_trace(case: Case) -> None:
    """Training goes on the same whether or not a validation came in between.

    How often one looks at a run would decide what it learns.
    """
    ends = []
    for checks in (0, 2):
        model = case.model()
        it = student(model, case.config())
        train(it, [speech(model, seed=0)])
        if checks:
            validate(it, [(k, speech(model, seed=50 + k)) for k in range(checks)])
        train(it, [speech(model, seed=1)], first=1)
        ends.append(snapshot(model))
    if keys := moved(*ends):
        raise Broken(
            f"{keys[0]} ends elsewhere after a validation between two steps: forward collects something in "
            "evaluation too; collect only if self.training, keep no counts of calls"
        )


def step_end_runs_once(case: Case) -> None:
    """Every plugin in the model is told the end of a step once, whatever the micro-batches.

    Teachers, temperatures and codebooks would move at another speed than their config says.
    """
    model = case.model()
    plugins = {name: module for name, module in model.named_modules() if isinstance(module, Plugin)}
    told = {name: listen(plugin) for name, plugin in plugins.items()}
    train(student(model, case.config("train.batches=2")), [speech(model, seed=k) for k in range(4)])
    for name, steps in told.items():
        if steps != [1, 2]:
            raise Broken(
                f"on_step_end of {name or 'the objective'} got steps {steps} in two steps of two micro-batches: the loop "
                "tells every plugin once; call no other plugin's on_step_end, and none in forward"
            )


def listen(plugin: Plugin) -> list[int]:
    """Write down what `on_step_end` is called with, from now on."""
    steps: list[int] = []
    original = plugin.on_step_end

    def hear(step: int) -> None:
        steps.append(step)
        original(step)

    vars(plugin)["on_step_end"] = hear
    return steps


def resuming_is_exact(case: Case) -> None:
    """Saved after two steps, loaded into another model, trained two more: bit-equal to four steps.

    Jobs end at time limits; a run that forgets something there is another experiment from then on.
    """
    cfg = case.config()
    whole, first, second = case.model(), case.model(), case.model(seed=1)
    batches = [speech(whole, seed=k) for k in range(4)]
    uninterrupted = student(whole, cfg)
    train(uninterrupted, batches)
    before = student(first, cfg)
    train(before, batches[:2])
    state = stored({"model": first.state_dict(), "optimizer": optim.state_of(before.optimizer)})
    after = student(second, cfg)
    second.load_state_dict(state["model"])
    optim.restore(after.optimizer, state["optimizer"])
    train(after, batches[2:], first=2)
    if keys := moved(snapshot(whole), snapshot(second)):
        raise Broken(
            f"{keys[0]} differs after a resume: something that training depends on is not saved (a plain attribute, "
            "a buffer with persistent=False) or was drawn from the run's seed; register it as a buffer"
        )


def checkpoint_is_whole(case: Case) -> None:
    """What is saved loads into a fresh model, key for key, and gives it all of the state.

    What is not saved, or not there to load into, is lost with the job.
    """
    model, fresh = case.model(), case.model(seed=1)
    train(student(model, case.config()), [speech(model)])
    try:
        state = stored(model.state_dict())
        missing, unexpected = fresh.load_state_dict(state, strict=False)
    except Exception as error:
        raise Broken(
            f"its state does not load into a fresh model ({error}): save plain tensors of a fixed shape"
        ) from error
    if strays := [*missing, *unexpected]:
        raise Broken(
            f"{strays[0]} is only in one of a trained and a fresh model: register every buffer in __init__"
        )
    if keys := moved(snapshot(model), snapshot(fresh)):
        raise Broken(
            f"{keys[0]} has another value after loading: save the tensor itself, and change nothing in loading"
        )


def stored(state: dict[str, object]) -> dict[str, dict[str, object]]:
    """Give what is left of a state that goes through a file of plain tensors."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return dict(torch.load(file, weights_only=True))

"""CTC against every path there is; character errors; texts of manifests, and those that cannot be learned."""

import json
from argparse import Namespace
from pathlib import Path

import editdistance
import pytest
import torch

from research.compose import compose_config
from research.config import Data
from research.conformance.case import Case, speech
from research.contracts import Batch, Seq
from research.data import manifest
from research.errors import HarkError
from research.model import check
from research.nn.edits import collapse, edits
from research.training.given import Given
from tests.outputs import agree, scored
from tests.reference import ctc

SHORT = ("objective.alphabet=abc", "encoder.stride=8")


def paths_of(model, leaves):
    return [h @ model.head.weight.T + model.head.bias for h in leaves]


def test_loss_and_gradients_are_those_of_all_paths():
    model, loss, _, leaves, batch = scored("ctc", *SHORT, seconds=(0.48, 0.4, 0.32))
    scores = paths_of(model, leaves)
    codes = [["abc".index(c) for c in text] for text in batch.texts]
    assert [len(one) for one in scores] == [6, 5, 4]
    total = sum(ctc.loss(one, text, 3) for one, text in zip(scores, codes, strict=True))
    assert loss.count == 5
    agree(loss.total, total, [model.head.weight, model.head.bias, *leaves])


def test_loss_and_gradients_are_hugging_faces(monkeypatch):
    """Theirs with our outputs, lengths and head; -100 is no label."""
    transformers = pytest.importorskip("transformers")
    model, loss, _, leaves, batch = scored("ctc", *SHORT, seconds=(1.2, 0.9, 0.7))
    config = transformers.Wav2Vec2Config(
        hidden_size=64, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, conv_dim=(8,), conv_stride=(320,),
        conv_kernel=(400,), num_feat_extract_layers=1, num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2,
        vocab_size=4, pad_token_id=3, ctc_loss_reduction="sum", ctc_zero_infinity=True, final_dropout=0.0,
    )  # fmt: skip
    theirs = transformers.Wav2Vec2ForCTC(config)
    theirs.lm_head = model.head
    frames = torch.tensor([len(h) for h in leaves])
    hidden = torch.nn.utils.rnn.pad_sequence(leaves, batch_first=True)
    monkeypatch.setattr(theirs.wav2vec2, "forward", lambda *_, **__: (hidden,))
    monkeypatch.setattr(theirs, "_get_feat_extract_output_lengths", lambda _: frames)
    labels = torch.full((3, 2), -100)
    for row, text in enumerate(batch.texts):
        labels[row, : len(text)] = torch.tensor(["abc".index(c) for c in text])
    wanted = theirs(batch.audio.x, labels=labels, return_dict=False)[0]
    agree(loss.total, wanted, [model.head.weight, model.head.bias, *leaves])


def learn(texts, seconds, *overrides, train=False):
    model = Case("objective", "ctc").model(*SHORT, *overrides).train(train)
    batch = speech(model, seconds)
    batch.texts = texts
    return model, batch


def test_texts_that_do_not_fit_are_no_target_and_are_counted():
    """Four frames hold `abca`, and `aab` with its blank, but not `aaa`; nor is an unknown text a target."""
    model, batch = learn(["abca", "aab", "aaa", ""], [0.32] * 4)
    loss = model(batch)
    assert loss.count == 7
    assert loss.stats["too_short"].total == 1
    assert loss.stats["too_short"].weight == 3
    model, batch = learn(["aaa", ""], [0.32] * 2)
    loss = model(batch)
    loss.total.backward()
    assert (loss.count, float(loss.total.detach())) == (0, 0.0)
    assert not model.head.weight.grad.any()


def test_texts_are_lower_cased_and_what_nobody_hears_is_a_space():
    model, batch = learn(["A, b-C!"], [0.9], "objective.alphabet='abc '")
    tokens, lengths = model.tokens(batch)
    assert tokens.tolist() == [[0, 3, 1, 3, 2]]
    assert lengths.tolist() == [5]


def test_an_unknown_character_is_named_with_its_utterance():
    model, batch = learn(["ab", "axb"], [0.9, 0.9])
    with pytest.raises(HarkError, match=r"utterance '1': its text has 'x', .* objective.alphabet"):
        model(batch)


@pytest.mark.parametrize("alphabet", ["aba", "abC", "''"])
def test_an_alphabet_that_cannot_be_is_refused(alphabet):
    with pytest.raises(HarkError, match=r"objective.alphabet="):
        check(compose_config(["objective=ctc", f"objective.alphabet={alphabet}"]).config)


def test_the_alphabet_holds_the_texts_of_debspeech(corpus):
    model = check(compose_config(["objective=ctc"]).config)
    texts = [json.loads(line)["text"] for line in (corpus / "train.jsonl").read_text().splitlines()]
    tokens, lengths = model.tokens(Namespace(texts=texts, ids=list(map(str, range(len(texts))))))
    assert int(lengths.max()) == tokens.size(1)


def test_only_training_masks():
    for train in (True, False):
        model, batch = learn(["ab"], [1.2], train=train)
        assert (model(batch).stats["mask_ratio"].total > 0) == train
    model, batch = learn(["ab"], [1.2], "masking=none", train=True)
    assert model(batch).stats["mask_ratio"].total == 0


def sequences(seed):
    draw = torch.Generator().manual_seed(seed)
    said, right = torch.randint(3, (5, 12), generator=draw), torch.randint(3, (5, 7), generator=draw)
    return said, torch.tensor([12, 7, 0, 3, 5]), right, torch.tensor([7, 7, 4, 0, 2])


def test_edits_are_levenshteins():
    for seed in range(4):
        said, sizes, right, lengths = sequences(seed)
        found = edits(said, sizes, right, lengths).tolist()
        for row, distance in enumerate(found):
            a, b = tuple(said[row, : sizes[row]].tolist()), tuple(right[row, : lengths[row]].tolist())
            assert distance == ctc.edits(a, b) == editdistance.eval(a, b)


def test_the_best_path_says_what_it_says():
    best = torch.tensor([[2, 0, 0, 2, 0, 1, 1, 2], [1, 1, 0, 2, 2, 2, 0, 0]])
    valid = torch.arange(8) < torch.tensor([[8], [4]])
    text, sizes = collapse(best, valid, 2)
    for row, size in enumerate(sizes.tolist()):
        assert text[row, :size].tolist() == ctc.read(best[row][valid[row]].tolist(), 2)


def test_character_errors_are_of_utterances_with_a_text():
    model, batch = learn(["ab", "", "c"], [0.9, 0.9, 0.9])
    stats = model(batch).stats
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.bias.copy_(torch.tensor([1.0, 0.0, 0.0, 0.0]))  # says `a` whatever it hears
    said_a = model(batch).stats
    assert (float(said_a["cer"].total), said_a["cer"].weight) == (2.0, 3)
    assert stats["blank_cer"].total == stats["blank_cer"].weight == 3


def lines(folder, *texts):
    path = Path(folder) / "m.jsonl"
    rows = [
        {"id": str(k), "audio_filepath": f"{k}.wav", "duration": 1.0} | text for k, text in enumerate(texts)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return manifest.load([path], Data(), headers=False)


def test_batches_get_the_texts_of_their_lines(tmp_path, own_cache):
    speech = lines(tmp_path, {"text": "one"}, {"text": ""}, {"text": "three"})
    batch = Batch.clean(Seq(torch.zeros(2, 10), torch.tensor([10, 10])))
    Given(("text",)).fill(batch, speech, [2, 0])
    assert batch.texts == ["three", "one"]
    Given().fill(batch, speech, [1])
    assert batch.texts == ["three", "one"]


@pytest.mark.parametrize("last", [{}, {"text": None}, {"text": 5}])
def test_a_line_without_a_text_is_named_before_anything_starts(tmp_path, own_cache, last):
    speech = lines(tmp_path, {"text": "one"}, last)
    Given().check(speech)
    with pytest.raises(HarkError, match=r"m.jsonl:2: text is (None|5), .*write it there"):
        Given(("text",)).check(speech)

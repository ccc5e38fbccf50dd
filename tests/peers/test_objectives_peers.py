"""Objectives against those of another library, on random weights."""

import numpy as np
import pytest
import torch

from clearhead.core.registry import Choice
from clearhead.data.corruption import CHOICES, Lexicon, Treatment
from clearhead.data.corruption.words import word_numbers
from clearhead.data.readings import SentencePair
from clearhead.data.text_batches import TextBatch
from clearhead.model import Memory, ModelConfig, Transformer
from clearhead.text import Tokenizer
from clearhead.train.objectives import OBJECTIVES
from clearhead.train.objectives.permutation import permutation_batch, stream_mask
from clearhead.train.objectives.replaced_token import detection

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.peers

VOCABULARY = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "the",
    "cat",
    "##s",
    "sit",
    "##ting",
    "on",
    "a",
    "mat",
    "##tress",
]
TEXT = "the cats sitting on a mattress the cat on the mats"


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    path = tmp_path_factory.mktemp("vocabulary") / "vocab.txt"
    path.write_text("\n".join(VOCABULARY) + "\n")
    return transformers.BertTokenizer(vocab=str(path))


@pytest.fixture(scope="module")
def ours(theirs):
    return Tokenizer(theirs.backend_tokenizer)


@pytest.fixture(scope="module")
def encoded(theirs):
    return theirs([TEXT] * 200, return_offsets_mapping=True, return_special_tokens_mask=True)


def collated(theirs, encoded, **options):
    collator = transformers.DataCollatorForLanguageModeling(theirs, seed=11, return_tensors="np", **options)
    examples = [{key: each[index] for key, each in encoded.items()} for index in range(len(encoded["input_ids"]))]
    return collator(examples)


def cases(changed, ids, chosen, mask):
    """How many chosen tokens became the mask, something else, or stayed; and how many were not chosen."""
    masked, kept = chosen & (changed == mask), chosen & (changed == ids)
    return [masked.sum(), (chosen & ~masked & ~kept).sum(), kept.sum(), (~chosen).sum()]


def test_masked_tokens_are_as_frequent_as_theirs(theirs, ours, encoded):
    """Chi-square of two samples: mask, random, kept, untouched."""
    from scipy.stats import chi2_contingency

    ids = np.array(encoded["input_ids"])
    found = collated(theirs, encoded)
    inner = ~np.array(encoded["special_tokens_mask"], dtype=bool)
    first = cases(found["input_ids"][inner], ids[inner], (found["labels"] != -100)[inner], theirs.mask_token_id)
    chooser, treat, lexicon = CHOICES.build(Choice(kind="token")), Treatment(), Lexicon.of(ours)
    random = np.random.default_rng(1)
    own = [treat(row, chooser(row, lexicon, random), lexicon, random) for row in ids]
    changed, chosen = (np.stack(each) for each in zip(*own, strict=True))
    second = cases(changed[inner], ids[inner], chosen[inner], ours.mask)
    assert not chosen[~inner].any()
    assert chi2_contingency([first, second]).pvalue > 1e-3


def test_whole_words_are_theirs_and_as_frequent(theirs, ours, encoded):
    """Their word numbers and ours cut the text alike; the share of masked words is the same by chi-square."""
    from scipy.stats import chi2_contingency

    lexicon = Lexicon.of(ours)
    ids = np.array(encoded["input_ids"])
    special, offsets = np.array(encoded["special_tokens_mask"]), np.array(encoded["offset_mapping"])
    words, _ = transformers.DataCollatorForLanguageModeling._calc_word_ids_and_prob_mask(offsets, special)
    own = np.stack([word_numbers(row, lexicon) for row in ids])
    assert ((words == -1) == (own == -1)).all()
    assert (np.diff(words)[:, 1:-1] == np.diff(own)[:, 1:-1]).all()
    with pytest.warns(UserWarning, match="whole word"):
        found = collated(theirs, encoded, whole_word_mask=True)
    chooser, random = CHOICES.build(Choice(kind="word")), np.random.default_rng(2)
    chosen = np.stack([chooser(row, lexicon, random) >= 0 for row in ids])
    firsts = np.diff(own, prepend=-1) == 1
    counts = [[(each & firsts).sum(), (~each & firsts).sum()] for each in (found["labels"] != -100, chosen)]
    assert chi2_contingency(counts).pvalue > 1e-3


def test_replaced_token_detection_is_electras_loss(theirs):
    config = transformers.ElectraConfig(
        vocab_size=23,
        embedding_size=8,
        hidden_size=12,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=20,
    )
    peer = transformers.ElectraForPreTraining(config).eval()
    original = torch.randint(5, 23, (3, 7))
    replaced = torch.rand(3, 7) < 0.4
    read = torch.where(replaced, (original - 4) % 18 + 5, original)
    segments = (torch.arange(7) < torch.tensor([[7], [4], [6]])).long()
    labels = (read != original).long()
    found = peer(read, attention_mask=segments, labels=labels)
    chosen = replaced & (segments > 0)
    batch, other = (TextBatch(1, each, original, chosen, segments) for each in (original, read))
    value, right = detection(found.logits, other, batch)
    assert value.item() / segments.sum().item() == pytest.approx(found.loss.item(), abs=1e-5)
    decided = (found.logits > 0).long() == labels
    assert right.item() == pytest.approx(decided[segments > 0].float().mean().item(), abs=1e-6)


def test_next_sentence_is_berts_pretraining_loss(ours):
    """The same hidden states and head weights: the two losses as BERT adds them up."""
    config = transformers.BertConfig(
        vocab_size=ours.vocab_size, hidden_size=12, num_hidden_layers=2, num_attention_heads=2, intermediate_size=20
    )
    peer = transformers.BertForPreTraining(config).eval()
    own = Transformer(
        ModelConfig(
            encoder_layers=1,
            decoder_layers=0,
            d_model=12,
            heads=2,
            d_ff=20,
            source_vocab=ours.vocab_size,
            segments=2,
            dropout=0.0,
            head="pretraining",
            tie="output",
        )
    ).eval()
    theirs = peer.cls.predictions
    copies = {
        own.head.matrix: theirs.decoder.weight,
        own.head.bias: theirs.decoder.bias,
        own.head.dense.weight: theirs.transform.dense.weight,
        own.head.dense.bias: theirs.transform.dense.bias,
        own.head.pooler.weight: peer.bert.pooler.dense.weight,
        own.head.pooler.bias: peer.bert.pooler.dense.bias,
        own.head.relation.weight: peer.cls.seq_relationship.weight,
        own.head.relation.bias: peer.cls.seq_relationship.bias,
    }
    with torch.no_grad():
        for parameter, other in copies.items():
            parameter.copy_(torch.nn.init.normal_(other))
    objective = OBJECTIVES.build(Choice(kind="next_sentence"))
    rows = [SentencePair(np.arange(5, 9 + n), np.arange(5, 12 - n), n % 2 == 0) for n in range(3)]
    batch = objective.collator(ours, 20)(rows, np.random.default_rng(0))
    valid = batch.segments > 0
    labels = batch.labels.masked_fill(~batch.counted, -100)
    reads = {"attention_mask": valid.long(), "token_type_ids": batch.types}
    found = peer(batch.ids, **reads, labels=labels, next_sentence_label=batch.follows)

    def encode(ids, given, *, segments):
        assert torch.equal(given, valid)
        assert torch.equal(segments, batch.types)
        return Memory(peer.bert(ids, **reads).last_hidden_state)

    own.encode = encode
    objective.weight = batch.tokens / len(rows)  # BERT adds two means
    loss = objective(own, batch)
    assert loss.value.item() / loss.count == pytest.approx(found.loss.item(), abs=1e-5)
    both = (loss.metrics["masked_loss"] + loss.metrics["pair_loss"]).item() / loss.count
    assert both == pytest.approx(found.loss.item(), abs=1e-5)


def test_permutation_masks_are_xlnets():
    """What each stream of XLNet attends to, read off its attention weights, is what our mask allows."""
    config = transformers.XLNetConfig(vocab_size=23, d_model=12, n_layer=2, n_head=2, d_inner=20, dropout=0.0)
    peer = transformers.XLNetModel(config).eval()
    ids = np.array([6, 7, 8, 9, 10, 11, 12])
    ranks = np.array([-1, 2, -1, 0, 1, -1, 3])
    batch = permutation_batch([[ids]], [[ranks]], 7, pad=0)
    places = batch.places[0]
    hidden_from = torch.zeros(1, 7, 7)  # 1 where token i may not see token j
    for i, own in enumerate(ranks):
        for j, other in enumerate(ranks):
            hidden_from[0, i, j] = float(other >= 0 and own <= other)
    target = torch.nn.functional.one_hot(places, 7)[None].float()
    found = peer(batch.ids, perm_mask=hidden_from, target_mapping=target, output_attentions=True)
    content, query = (each[0, 0] > 0 for each in found.attentions[0])
    mask = stream_mask(batch)[0, 0]
    assert torch.equal(content, mask[:7, :7])
    assert torch.equal(query[places], mask[7:, :7])  # theirs has a row for each place

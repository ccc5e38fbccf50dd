"""What is said in templated dialogues: six domains, templates with slots, turns that fit every domain."""

import itertools
from collections.abc import Mapping, Sequence
from functools import cache

import torch
from torch import Tensor

DOMAINS: Mapping[str, Mapping[str, str]] = {
    "travel": {"THING": "flight train hotel ticket", "ACTION": "book cancel", "DETAIL": "abroad tomorrow"},
    "food": {"THING": "pizza soup salad menu", "ACTION": "cook order", "DETAIL": "spicy vegetarian"},
    "weather": {"THING": "storm forecast rain sun", "ACTION": "predict expect", "DETAIL": "outside overnight"},
    "music": {"THING": "song album concert band", "ACTION": "play stream", "DETAIL": "loud live"},
    "bank": {"THING": "loan account card payment", "ACTION": "transfer pay", "DETAIL": "monthly yearly"},
    "health": {"THING": "doctor pill fever checkup", "ACTION": "treat prescribe", "DETAIL": "daily urgently"},
}
TEMPLATES: Mapping[str, Sequence[str]] = {  # a word in capitals is a slot, filled by a word of the domain
    "user": ("i want to ACTION a THING", "can you ACTION the THING DETAIL", "is the THING DETAIL", "a THING please"),
    "system": ("which THING do you want", "i can ACTION it DETAIL", "the THING is ready", "do you want it DETAIL"),
}
NEUTRAL: Mapping[str, Sequence[str]] = {
    "user": ("yes please", "thank you", "can you repeat that", "that sounds good", "what else is there"),
    "system": ("of course", "let me check", "sorry about that", "do you want anything else", "it is ready"),
}
SPEAKERS = ("user", "system")
END, FIRST = 3, 4  # ids: 0 padding, 1 user, 2 system, 3 end of a turn, then the words
CHOICES = 4  # fillers of a slot


@cache
def lexicon() -> tuple[str, ...]:
    """All words, each once."""
    texts = itertools.chain(*TEMPLATES.values(), *NEUTRAL.values(), *(own.values() for own in DOMAINS.values()))
    return tuple(dict.fromkeys(word for text in texts for word in text.split() if not word.isupper()))


def domain_of(word: str) -> int:
    """The number of the domain that a word gives away, or -1."""
    having = [any(word in words.split() for words in own.values()) for own in DOMAINS.values()]
    return having.index(True) if any(having) else -1


def templates() -> Tensor:
    """(neutral or not, speakers, templates, width) int64: speaker, ids of words or -1 - slot, end; padded."""
    known = {word: FIRST + place for place, word in enumerate(lexicon())}
    known.update({slot: -1 - place for place, slot in enumerate(_slots())})
    rows = {
        (kind, speaker, place): [1 + speaker, *(known[word] for word in text.split()), END]
        for kind, texts in enumerate((TEMPLATES, NEUTRAL))
        for speaker, name in enumerate(SPEAKERS)
        for place, text in enumerate(texts[name])
    }
    ids = torch.zeros(2, 2, max(map(counts, (0, 1))), max(map(len, rows.values())), dtype=torch.int64)
    for place, row in rows.items():
        ids[place][: len(row)] = torch.tensor(row)
    return ids


def counts(kind: int) -> int:
    """How many templates (0) or neutral turns (1) each speaker has."""
    return len((TEMPLATES, NEUTRAL)[kind][SPEAKERS[0]])


def fillers() -> Tensor:
    """(domains, slots, CHOICES) int64: ids of the words that may fill a slot; a short list is repeated."""
    known = {word: FIRST + place for place, word in enumerate(lexicon())}
    each = [[(own[slot].split() * CHOICES)[:CHOICES] for slot in _slots()] for own in DOMAINS.values()]
    return torch.tensor([[[known[word] for word in words] for words in own] for own in each])


def _slots() -> Sequence[str]:
    return list(next(iter(DOMAINS.values())))

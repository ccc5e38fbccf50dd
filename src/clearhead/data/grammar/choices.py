"""Which words and rules may fill a slot: the conditions of the rules and of the words, resolved once and remembered."""

from collections import Counter
from collections.abc import Sequence

from clearhead.data.grammar.lexicon import Lexicon
from clearhead.data.grammar.rules import HEAD, Rule, Rules, Slot
from clearhead.data.grammar.words import Wish, Word

Wishes = tuple[Wish, ...]


class Choices:
    """Looks up words by kind and rules by category, under conditions on their heads.

    A set of words is held as the bits of an integer, so that several conditions are one `&`.
    """

    def __init__(self, rules: Rules, lexicon: Lexicon) -> None:
        self.rules, self.lexicon = rules, lexicon
        self._fitting: dict[tuple[str, Wishes], list[Word] | list[Rule]] = {}
        self._bits: dict[tuple[str, Wish], int] = {}
        self._listed: dict[tuple[str, int], list[Word]] = {}
        self._allowing: dict[tuple[str, str, Word], int] = {}
        self.places = self._places()

    def fitting(self, category: str, wishes: Wishes) -> Sequence[Word | Rule]:
        """The words of a kind, or the rules of a phrase, whose heads can have all that is wished."""
        key = category, wishes
        if key not in self._fitting:
            if category in self.lexicon.words:
                self._fitting[key] = self._list(category, self._all(category, wishes))
            else:
                viable = (rule for rule in self.rules.phrases[category] if self._viable(rule, wishes))
                self._fitting[key] = [rule for rule in viable for _ in range(rule.weight)]
        return self._fitting[key]

    def choosers(self, kind: str, feature: str, chosen: Word, wishes: Wishes) -> Sequence[Word]:
        """The words that themselves choose what they go with, and allow the word chosen before."""
        key = kind, feature, chosen
        if key not in self._allowing:
            wished = (word.wishes[feature] for word in self.lexicon.words[kind])
            self._allowing[key] = _bits([wish.allows(chosen.classes) for wish in wished])
        return self._list(kind, self._allowing[key] & self._all(kind, wishes))

    def _places(self) -> Counter[Word]:
        """In how many places of the grammar each word can stand: slots of rules, and objects and subjects of words."""
        phrases = (rule for rules in self.rules.phrases.values() for rule in rules)
        slots = [slot for rule in (*self.rules.constructions, *phrases) for slot in rule.slots]
        asked = Counter((slot.category, slot.wish) for slot in slots if slot.category in self.lexicon.words)
        chosen = (word.wishes.get(name) for word in self.lexicon.entries() for name in ("object", "describes"))
        asked.update(("noun", wish) for wish in chosen if wish is not None and wish.some)
        places: Counter[Word] = Counter()
        for (kind, wish), times in asked.items():
            places.update(dict.fromkeys(self._list(kind, self._meeting(kind, wish)), times))
        return places

    def _viable(self, rule: Rule, wishes: Wishes) -> bool:
        """Whether something fits each slot, as far as it does not depend on another one."""
        if any(wish.some for wish in wishes) and all(slot.name != HEAD for slot in rule.slots):
            return False
        return all(self.fitting(slot.category, asked(slot, wishes)) for slot in rule.slots)

    def _all(self, kind: str, wishes: Wishes) -> int:
        bits = (1 << len(self.lexicon.words[kind])) - 1
        for wish in wishes:
            bits &= self._meeting(kind, wish)
        return bits

    def _meeting(self, kind: str, wish: Wish) -> int:
        key = kind, wish
        if key not in self._bits:
            self._bits[key] = _bits([wish.allows(word.classes) for word in self.lexicon.words[kind]])
        return self._bits[key]

    def _list(self, kind: str, bits: int) -> list[Word]:
        key = kind, bits
        if key not in self._listed:
            words = self.lexicon.words[kind]
            self._listed[key] = [word for place, word in enumerate(words) if bits >> place & 1]
        return self._listed[key]


def asked(slot: Slot, wishes: Wishes) -> Wishes:
    """What is asked of a slot: what its rule asks and, of the head, what the sentence asks of the phrase."""
    own = (slot.wish,) if slot.wish.names else ()
    return (*wishes, *own) if slot.name == HEAD else own


def _bits(flags: list[bool]) -> int:
    return sum(1 << place for place, flag in enumerate(flags) if flag)

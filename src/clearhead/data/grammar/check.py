"""What a grammar must satisfy beyond the form of each rule and each row: that they fit together."""

from collections import defaultdict
from collections.abc import Iterator

from clearhead.core.errors import DataError
from clearhead.data.grammar.lexicon import Lexicon
from clearhead.data.grammar.rules import HEAD, Field, Rule, Rules, Slot
from clearhead.data.grammar.words import AUXILIARIES, Word


def check(rules: Rules, lexicon: Lexicon) -> None:
    """Refuse unknown categories, classes, features and forms, and a Chinese verb with two meanings for one object.

    Raises:
        DataError: names the rule or the word.
    """
    for rule, where in _all_rules(rules):
        for slot in rule.slots:
            _check_slot(slot, rule, f"{where}, slot {slot.name}", rules, lexicon)
        _check_forms(rule, where, lexicon)
    for rule in rules.constructions:
        if not rule.pairs and not any(slot.chosen_by or slot.chooses for slot in rule.slots):
            raise DataError("a construction combines nothing", where=rule.name, remedy="list its pairs")
    _check_one_meaning(lexicon)


def _all_rules(rules: Rules) -> Iterator[tuple[Rule, str]]:
    yield from ((rule, rule.name) for rule in rules.constructions)
    yield from ((rule, rule.name) for bodies in rules.phrases.values() for rule in bodies)


def _check_slot(slot: Slot, rule: Rule, where: str, rules: Rules, lexicon: Lexicon) -> None:
    if slot.category not in lexicon.words and slot.category not in rules.phrases:
        known = ", ".join((*lexicon.words, *rules.phrases))
        raise DataError("no such kind of word or phrase", where=where, found=slot.category, expected=known)
    for name in slot.wish.names:
        if name not in lexicon.classes:
            raise DataError("unknown class", where=where, found=name, remedy="add it to classes.yaml")
    if slot.chooses is not None:
        _check_feature(slot.chooses[0], slot.category, where, lexicon)
    if slot.chosen_by is not None:
        owner = next(each for each in rule.slots if each.name == slot.chosen_by[0])
        _check_feature(slot.chosen_by[1], owner.category, where, lexicon)


def _check_feature(feature: str, category: str, where: str, lexicon: Lexicon) -> None:
    words = lexicon.words.get(category, ())
    if words and feature not in words[0].wishes:
        raise DataError("unknown feature", where=where, found=feature, expected=", ".join(words[0].wishes))


def _check_forms(rule: Rule, where: str, lexicon: Lexicon) -> None:
    """Every word that can fill a slot has the forms that the templates ask of it."""
    slots = {slot.name: slot for slot in rule.slots}
    for template, language in ((rule.zh, "zh"), (rule.en, "en")):
        for field in (part for part in template if isinstance(part, Field)):
            for word in _possible(slots[field.slot], where, lexicon):
                _check_form(word, field.form, language, where)


def _possible(slot: Slot, where: str, lexicon: Lexicon) -> list[Word]:
    words = [word for word in lexicon.words.get(slot.category, ()) if slot.wish.allows(word.classes)]
    if slot.category in lexicon.words and not words and slot.name != HEAD:
        raise DataError("no word can fill a slot", where=f"{where}, slot {slot.name}", found=slot.wish)
    return words


def _check_form(word: Word, form: str, language: str, where: str) -> None:
    known = word.zh if language == "zh" else word.en
    if form not in known and not (language == "en" and (form in AUXILIARIES or form.startswith("+"))):
        raise DataError(
            f"{word.kind} {word.zh['']} has no such form", where=where, found=form, expected=", ".join(known)
        )


def _check_one_meaning(lexicon: Lexicon) -> None:
    """A verb such as 看 may be entered twice (read, watch), but never for the same object."""
    senses: dict[str, list[Word]] = defaultdict(list)
    for verb in (verb for verb in lexicon.words["verb"] if "transitive" in verb.classes):
        senses[verb.zh[""]].append(verb)
    for zh, verbs in senses.items():
        for noun in lexicon.words["noun"] if len(verbs) > 1 else ():
            meanings = sorted({verb.en[""] for verb in verbs if verb.wishes["object"].allows(noun.classes)})
            if len(meanings) > 1:
                raise DataError("a verb has two meanings for one object", where=f"{zh} {noun.zh['']}", found=meanings)

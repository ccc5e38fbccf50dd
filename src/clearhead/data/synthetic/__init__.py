"""Synthetic tasks: endless examples from known laws, so that the best possible score is known too.

    task                    asks for                                                best
    recall                  the value that stood beside a key                       0
    copy reverse offset     the source again, from its end, from its token k on     0
    delay retrieve          the token k before each token, the token at a distance  0
    markov                  the next symbol of a chain of order 1 or 2              entropy rate
    pcfg pcfg_sentences     the next word of a small English grammar                exact entropy
    pcfg_topics             the topic of such a sentence                            exact entropy
    toy_mt                  the translation of such a sentence                      0
    topics                  the topic of a sentence whose topics share attributes   exact entropy
    digits                  the digit of a picture                                  not known
    facts                   the object of a statement                               exact entropy
    dialog                  the domain of each turn, or where it changes            exact entropy (words: not known)
    text text_pairs         characters of the embedded corpus                       not known

`labels[:, t]` is the answer asked for at `tokens[:, t]`, so language models need no further shift. An example does
not depend on how many are drawn with it. Generators are those of the CPU; move the samples afterwards.
"""

from clearhead.data.synthetic.base import IGNORED, TASKS, Samples, Task
from clearhead.data.synthetic.copying import Copy, Delay, Offset, Retrieve, Reverse
from clearhead.data.synthetic.dialog import Dialog
from clearhead.data.synthetic.digits import Digits
from clearhead.data.synthetic.facts import Facts
from clearhead.data.synthetic.markov import Markov
from clearhead.data.synthetic.pcfg import Pcfg, PcfgSentences, PcfgTopics
from clearhead.data.synthetic.recall import Recall
from clearhead.data.synthetic.text import Text, TextPairs
from clearhead.data.synthetic.topics import Topics
from clearhead.data.synthetic.toy_mt import ToyMT

__all__ = [
    "IGNORED",
    "TASKS",
    "Copy",
    "Delay",
    "Dialog",
    "Digits",
    "Facts",
    "Markov",
    "Offset",
    "Pcfg",
    "PcfgSentences",
    "PcfgTopics",
    "Recall",
    "Retrieve",
    "Reverse",
    "Samples",
    "Task",
    "Text",
    "TextPairs",
    "Topics",
    "ToyMT",
]

"""The documents whose questions and claims are on trial. They are cited by number and item, never quoted."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Document:
    """A page of questions about Transformers that people learn from."""

    file: str
    en: str
    zh: str


DOCUMENTS = {
    "000": Document("000_745ae1cc33aec4a8.txt", "twenty questions with short answers", "二十个问题及简短回答"),
    "001": Document("001_8596783537d538c2.txt", "a short page of four questions", "含四个问题的短文"),
    "002": Document("002_58b4131cbedb816d.txt", "a long explanation of the Transformer", "Transformer 长篇讲解"),
    "003": Document("003_d14fa65b0e8e4629.txt", "84 questions without answers", "八十四个没有答案的问题"),
    "004": Document("004_0828fd7d3020ecbc.txt", "fifteen questions about large models", "关于大模型的十五个问题"),
}

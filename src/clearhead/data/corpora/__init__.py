"""Corpora: texts for language models, streamed from files larger than memory."""

from clearhead.data.corpora.base import CORPORA, Corpus, Document
from clearhead.data.corpora.folder import Folder
from clearhead.data.corpora.records import JsonlTexts, ParquetTexts
from clearhead.data.corpora.split import First, Part, ShareOf
from clearhead.data.corpora.text import Chapters, Text

__all__ = [
    "CORPORA",
    "Chapters",
    "Corpus",
    "Document",
    "First",
    "Folder",
    "JsonlTexts",
    "ParquetTexts",
    "Part",
    "ShareOf",
    "Text",
]

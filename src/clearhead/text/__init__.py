"""Text to token ids and back: tokenizers, their trainers, their special tokens."""

from clearhead.text.absent import NO_TOKENIZER
from clearhead.text.base import TOKENIZERS, TokenizerKind
from clearhead.text.bpe import BpeKind
from clearhead.text.byte import ByteKind
from clearhead.text.byte_bpe import ByteBpeKind
from clearhead.text.char import CharKind
from clearhead.text.config import TokenizerConfig, train_tokenizer
from clearhead.text.sampler import SubwordSampler
from clearhead.text.sentencepiece import PieceModel, read_pieces
from clearhead.text.shared_pieces import shared_unigram
from clearhead.text.tokenizer import Tokenizer
from clearhead.text.unigram import UnigramKind
from clearhead.text.wordpiece import WordPieceKind, wordpiece_tokenizer

__all__ = [
    "NO_TOKENIZER",
    "TOKENIZERS",
    "BpeKind",
    "ByteBpeKind",
    "ByteKind",
    "CharKind",
    "PieceModel",
    "SubwordSampler",
    "Tokenizer",
    "TokenizerConfig",
    "TokenizerKind",
    "UnigramKind",
    "WordPieceKind",
    "read_pieces",
    "shared_unigram",
    "train_tokenizer",
    "wordpiece_tokenizer",
]

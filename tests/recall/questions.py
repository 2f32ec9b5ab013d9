"""Questions that the recall model can answer: places in a text whose windows stand in it once.

A question is 16 tokens of the text; its answer the 32 tokens that follow there. The model finds the
place by the last 8 tokens, so every window of 8 that it meets on the way must be unique, and place
and question keep clear of the borders of chunks, where the keys of 8 positions know no past.
"""

import numpy as np

from make_recall_model import CHUNK, KEY_TOKENS

QUESTION = 16
ANSWER = 32
CLEAR = 16  # tokens on both sides of a border
MULTIPLIERS = np.random.default_rng(8).integers(0, 2**63, KEY_TOKENS, dtype=np.uint64) * 2 + 1


def unique_windows(ids):
    """[n - 7] bool: whether ids[i : i + 8] stands in ids once. By hashes of 64 bits: two windows
    that meet there only by chance count as seen, which costs a question and no more."""
    ids = np.asarray(ids, dtype=np.uint64)
    n = len(ids) - KEY_TOKENS + 1
    hashes = np.zeros(n, dtype=np.uint64)
    for i, multiplier in enumerate(MULTIPLIERS):
        hashes += (ids[i : i + n] + np.uint64(1)) * multiplier * (ids[i : i + n] ^ multiplier)
    _, inverse, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    return counts[inverse] == 1


def is_clear(begin, end):
    """Whether tokens begin to end keep CLEAR tokens away from every border of a chunk."""
    return begin % CHUNK >= CLEAR and begin // CHUNK == (end + CLEAR) // CHUNK


def places(ids):
    """Where a question may begin: an array of positions in the text."""
    unique = unique_windows(ids)
    needed = QUESTION + ANSWER - KEY_TOKENS + 1  # windows of a question and its answer
    run = np.convolve(unique, np.ones(needed, dtype=np.int64), "valid")
    at = np.flatnonzero(run == needed)
    return at[[is_clear(begin, begin + QUESTION + ANSWER) for begin in at]]


def choose(ids, n_questions, seed, *, is_apt=lambda begin: True):
    """Begins of n questions, drawn by the seed among the places that are apt, spread over the text:
    one of each n-th part of it."""
    rng, candidates = np.random.default_rng(seed), places(ids)
    chosen = []
    for part in np.array_split(np.arange(len(ids)), n_questions):
        here = candidates[(candidates >= part[0]) & (candidates <= part[-1])]
        for begin in rng.permutation(here):
            if is_apt(int(begin)):
                chosen.append(int(begin))
                break
    if len(chosen) < n_questions:
        raise ValueError(f"the text has places for {len(chosen)} of {n_questions} questions only")
    return chosen


def question_at(ids, begin):
    """(question ids, the ids that answer it)"""
    middle = begin + QUESTION
    return list(ids[begin:middle]), list(ids[middle : middle + ANSWER])

"""What mixing takes from its packages without their promise; its tests say what to look at."""

from functools import cache

import numpy as np


@cache
def language_model():
    """Return py3langid's model, read once in a process."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


@cache
def language_automaton() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return how the model reads: the state after (base of a state + byte), the bases, the states' features.

    It begins in state 0. A feature is the number of a row of `language_weights`, or -1.
    """
    model = language_model()
    base, features = np.array(model._rowbase, np.int32), np.array(model.tk_output, np.int32)
    return np.frombuffer(model.tk_nextmove, np.uint32).view(np.int32), base, features


@cache
def language_weights() -> tuple[np.ndarray, np.ndarray]:
    """Return the weights of features (features x languages), and the languages' own."""
    model = language_model()
    return model.nb_ptc.astype(np.float32), model.nb_pc.astype(np.float32)


def language_bytes(text: str) -> bytes:
    """Return what the model reads of a text."""
    return language_model()._encode(text)


def same_language() -> list[tuple[int, int]]:
    """Return pairs of columns of the weights that are one language: the second's part goes to the first."""
    return language_model()._alias_pairs

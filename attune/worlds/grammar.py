"""The language of the small world: what can be asked, how it is answered, and the exact marks an answer earns.

A prompt asks for a number of things of a kind ("Could you name three red fruits?"), an answer lists some and may end politely or
rudely ("Cherry, raspberry and redcurrant. Glad to help!"). The marks are a program's, so nothing about quality is a matter of opinion.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from random import Random

from attune.core.errors import RecordError

KINDS: Mapping[str, tuple[str, ...]] = {
    "animals that fly": ("eagle", "owl", "bat", "bee", "swan", "crow", "moth", "stork"),
    "animals that live in the sea": ("shark", "whale", "crab", "squid", "seal", "cod", "dolphin", "lobster"),
    "farm animals": ("cow", "pig", "sheep", "goat", "hen", "donkey", "duck", "horse"),
    "red fruits": ("cherry", "raspberry", "strawberry", "cranberry", "redcurrant", "pomegranate"),
    "yellow fruits": ("banana", "lemon", "pineapple", "quince", "starfruit", "mango"),
    "green vegetables": ("spinach", "broccoli", "pea", "leek", "kale", "celery", "cucumber", "lettuce"),
    "colours": ("red", "blue", "green", "yellow", "purple", "orange", "brown", "pink"),
    "tools": ("hammer", "saw", "drill", "spanner", "chisel", "file", "pliers", "axe"),
    "musical instruments": ("piano", "violin", "flute", "drum", "harp", "trumpet", "cello", "guitar"),
    "drinks": ("water", "tea", "coffee", "milk", "juice", "cocoa", "lemonade", "cider"),
    "things to wear": ("shirt", "hat", "glove", "scarf", "sock", "shoe", "coat", "belt"),
    "vehicles": ("car", "bus", "train", "bicycle", "ship", "tram", "lorry", "plane"),
    "trees": ("oak", "pine", "birch", "maple", "willow", "ash", "cedar", "elm"),
    "flowers": ("rose", "tulip", "daisy", "lily", "orchid", "iris", "violet", "poppy"),
    "rooms of a house": ("kitchen", "bedroom", "cellar", "attic", "hall", "bathroom", "study", "pantry"),
    "parts of the body": ("hand", "foot", "knee", "nose", "ear", "elbow", "chin", "thumb"),
    "sports": ("tennis", "rowing", "judo", "football", "hockey", "golf", "fencing", "rugby"),
    "jobs": ("baker", "nurse", "farmer", "pilot", "teacher", "miner", "judge", "tailor"),
    "metals": ("iron", "gold", "silver", "copper", "tin", "zinc", "lead", "nickel"),
    "planets": ("mercury", "venus", "earth", "mars", "jupiter", "saturn", "uranus", "neptune"),
}
"""Kind -> the words that fit it, all of one letter case; no kind's name is part of another's."""

COUNTS: Mapping[str, int] = {"two": 2, "three": 3, "four": 4}
FORMS = (
    "Name {count} {kind}.",
    "List {count} {kind}.",
    "Give me {count} {kind}.",
    "Tell me {count} {kind}.",
    "I need {count} {kind}.",
    "Could you name {count} {kind}?",
    "Can you list {count} {kind}?",
    "What are {count} {kind}?",
)
OPENERS = (
    "",
    "Hello. ",
    "Good morning. ",
    "Good evening. ",
    "Quick question. ",
    "One more thing. ",
    "For my class: ",
    "For a puzzle: ",
    "For a story: ",
    "I am curious. ",
    "My son asks. ",
    "I forgot again. ",
)

POLITE = ("Glad to help!", "I hope this helps!", "Enjoy!")
RUDE = ("Look it up yourself.", "What a silly question.", "Do not ask again.")

LIST_MARKS, MANNER_MARKS = 7.0, 3.0
BEST = LIST_MARKS + MANNER_MARKS

_ASKED = re.compile(rf"\b({'|'.join(COUNTS)}) ({'|'.join(KINDS)})[.?]\s*$")


@dataclass(frozen=True, slots=True)
class Task:
    """What a prompt asks for."""

    count: int
    kind: str


def prompts() -> list[str]:
    """Returns every prompt of the language, in a fixed order."""
    return [opener + form.format(count=count, kind=kind) for opener, form, count, kind in product(OPENERS, FORMS, COUNTS, KINDS)]


def task(prompt: str) -> Task:
    """Returns what a prompt asks for; raises RecordError for a text that is no prompt of this language."""
    found = _ASKED.search(prompt)
    if found is None:
        raise RecordError("not a prompt of the language world", field="prompt", value=prompt, allowed=f"such as {prompts()[0]!r}")
    return Task(COUNTS[found[1]], found[2])


def marks(prompt: str, answer: str) -> float:
    """Marks of an answer, from 0 to 10.

        marks = 7 * 2 min(R, A) / (L + A) + manners

    A things were asked for, the answer's first sentence lists L (parted by commas and "and", repeats counted), R different ones of them
    fit. Missing, extra, repeated and unfitting things all lower the share. Manners: 3 for one of the polite endings, 1.5 for none,
    0 for anything else and for a list that no full stop ends.

    Args:
        prompt: a prompt of this language.
        answer: any text.

    Returns:
        The marks; 10 only for exactly the right number of different fitting things and a polite ending.

    Raises:
        RecordError: the prompt is not of this language.
    """
    asked = task(prompt)
    head, stop, tail = answer.strip().partition(".")
    listed = [word for word in (part.strip().lower() for part in re.split(r",| and ", head)) if word]
    fitting = len(set(listed) & set(KINDS[asked.kind]))
    share = 2 * min(fitting, asked.count) / (len(listed) + asked.count)
    manners = 0.0 if not stop else {"": 0.5, **dict.fromkeys(POLITE, 1.0)}.get(tail.strip(), 0.0)
    return LIST_MARKS * share + MANNER_MARKS * manners


def answer(words: list[str], ending: str) -> str:
    """Returns the words as a sentence ("Oak, elm and ash."), followed by an ending unless that is empty."""
    listed = words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
    return f"{listed[0].upper()}{listed[1:]}. {ending}".rstrip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Author:
    """Somebody who answers with known carelessness; each share is a probability in [0, 1]."""

    wrong: float = 0.15
    # of each thing listed not to fit
    repeat: float = 0.05
    # of each thing after the first to be one that was listed already
    miscount: float = 0.3
    # of the answer to list one thing too few or too many
    polite: float = 0.25
    rude: float = 0.4
    # of a polite or a rude ending; else there is none

    def write(self, prompt: str, random: Random) -> str:
        """Returns an answer to the prompt."""
        asked = task(prompt)
        count = asked.count + (random.choice((-1, 1)) if random.random() < self.miscount else 0)
        others = [kind for kind in KINDS if kind != asked.kind]
        fresh = random.sample(KINDS[asked.kind], min(count, len(KINDS[asked.kind])))
        words: list[str] = []
        for word in fresh:
            if words and random.random() < self.repeat:
                word = random.choice(words)
            elif random.random() < self.wrong:
                word = random.choice(KINDS[random.choice(others)])
            words.append(word)
        draw = random.random()
        ending = random.choice(POLITE) if draw < self.polite else random.choice(RUDE) if draw < self.polite + self.rude else ""
        return answer(words, ending)

"""What the voices of fit_overlap.py say: listeners' words, and the beginnings of interruptions."""

from __future__ import annotations

import random
import re
from pathlib import Path

BACKCHANNEL, INTERRUPTION, NOISE = 0, 1, 2

MHM = "MHM"  # has no spelling that the engines pronounce: see the phonemes below
BACKCHANNELS = {
    "yes": 5, "yeah": 5, "yep": 3, "yup": 2, "ya": 0.5, "okay": 5, "ok": 1, "right": 5, "sure": 4,
    "I see": 4, "uh-huh": 5, "uh huh": 2, "aha": 1.5, "hmm": 2, "all right": 1.5, "alright": 1,
    "got it": 1, "oh": 0.7, "ah": 0.7, "good": 0.4, "great": 0.4, "exactly": 0.3, "really": 0.3,
    "yeah yeah": 0.6, "yes yes": 0.4, "okay okay": 0.3, "right right": 0.4, "oh okay": 0.6,
    "oh I see": 0.4, "oh yeah": 0.4, "okay yeah": 0.2, "yeah sure": 0.2, "yeah okay": 0.2,
    "yes okay": 0.2, "um-hum": 0.7, MHM: 9,
}  # fmt: skip
"""With their weights; repeated and joined ones because a nod may be longer than a word."""


def phrases(listed: str) -> list[str]:
    """Written with a bar between them, lines broken anywhere."""
    return [" ".join(phrase.split()) for phrase in listed.split("|")]


SHORT = phrases("""
no | no | no | stop | stop | wait | wait | what | hello | hey | sorry | pardon | help | hold on |
hang on | excuse me | cancel | repeat | again | agent | operator | enough | quiet | no no | wait
wait | stop stop | no wait | never mind | go back | hi | help me | one moment | please | goodbye |
listen | actually | but | nope | no thanks | stop it | shut up | slow down | what what
""")
"""Whole interruptions that are as short as a nod."""
OPENINGS = phrases("""
I'd like to | I want to | I need to | I would like | can you | could you | can I | could I | what
is | what's | what about | what time | when will | when does | where is | where's my | how do I |
how much | how long | how are you | who is | why is | why did | do you have | do you | does it |
is there | is it | are you | are there | will it | would you | please | actually | but I | but |
and what | and then | so what | so how | so I | well I | well | no | no no | no I said | no that's
| no wait | wait | wait a minute | wait wait | stop | stop it | stop stop | hold on | hang on |
excuse me | sorry | sorry can you | I'm sorry | I am | I have | I think | I don't | I didn't | I
was | I mean | I just | I forgot | I already | my order | my name is | my number | my account |
the number | the order | the other | the | this is | that's not | that is | that | it's | it is |
it was | there is | they | we | we are | you | you said | your | let me | let's | listen | look |
hello | hello is | hi | hi how | hey | help | help me | help I | give me | tell me | show me |
send it | change | cancel | repeat | again | speak to | agent | operator | representative |
customer | not that | not | never mind | nothing | one | two | three | four | five | six | seven |
eight | nine | ten | zero | on monday | tomorrow | today | yesterday | maybe | because | if | in |
at | for | from | with | has | have you | had | did you | was | were | may I | just | just a
second | one moment | one second | thank you | thanks but | good morning | goodbye | bye | welcome
| please try | please hold | pardon | what | what | really | which | whose | could we | should I |
shut up | enough | okay but wait | yes but | yeah but I | right but | than | over | under | after
| before | every | any | some | all of | only | first | last | next | another | people | black |
blue | produced | login | digits | enter | press | status | delivery | address | price | order |
book | tickets | weather | turn off | turn the | play | open | call | go back | go on | start |
skip | slower | louder | quiet
""")
CONTINUATIONS = phrases("""
check my order status please | know where it is | change the delivery address | speak to a person
| the opening hours | you repeat that again | something else | tell me the price | the order
number one two three | going on here | about the other one | ask you a question | wrong number |
much is it | the weather today | not what I asked | help me with this | tomorrow morning | return
this item | get a refund | call you back later | my package arrive | talk to someone | understand
what you said | make a change | book a table for two | people and places | is being made |
surpassed by anything | directory number | extension for sales | first three letters | leave a
message
""")

MHM_IPA = ["mhˈm", "mːhˈm", "mːhˈmː", "mˈhmː", "m̩hˈm", "mhmː", "əmhˈm", "mː", "mˈm", "hˈm", "hmː",
           "mhˈəm", "ˈmhm"]  # fmt: skip
MHM_ESPEAK = ["[[mh'm]]", "[[m:h'm:]]", "[[m@hm]]", "[[m:h'@m]]", "[[m:_h'm:]]", "[[m:]]",
              "[[hm:]]", "[[m:hm]]", "[[m@h'm]]", "[[hm:m]]", "[[m'mm]]", "[[mh'@m]]", "[[VhV]]",
              "[[V2h'V]]", "[[Vmh'Vm]]"]  # fmt: skip
MHM_FLITE = ["pau m hh m pau", "pau m m hh m pau", "pau m m hh m m pau", "pau ax m hh m pau",
             "pau hh m m pau", "pau m m m pau", "pau m hh ah m pau"]  # fmt: skip


def kind_of(r: random.Random) -> int:
    return BACKCHANNEL if r.random() < 0.47 else INTERRUPTION


def text_of(r: random.Random, kind: int) -> str:
    if kind == BACKCHANNEL:
        text = r.choices(list(BACKCHANNELS), list(BACKCHANNELS.values()))[0]
        if text == MHM:
            return text
        return text + r.choices([".", ",", "!", "?", ""], [5, 2, 1, 1, 2])[0]
    share = r.random()
    if share < 0.14:
        text = r.choice(SHORT)
    elif share < 0.58:
        text = r.choice(OPENINGS) + " " + r.choice(CONTINUATIONS)
    elif share < 0.72:
        text = r.choice(OPENINGS) + " " + " ".join(r.sample(dictionary(), 2))
    else:  # any word may begin a sentence: every phone must have been heard
        text = " ".join(r.sample(dictionary(), 3))
    return text + r.choice([".", "?", "!", ""])


def dictionary() -> list[str]:
    """Words of 3 to 9 letters of the CMU dictionary that comes with pocketsphinx."""
    if not _DICTIONARY:
        import pocketsphinx

        path = Path(pocketsphinx.get_model_path("en-us")) / "cmudict-en-us.dict"
        words = (line.split()[0] for line in path.read_text().splitlines() if line.strip())
        _DICTIONARY.extend(word for word in words if re.fullmatch(r"[a-z]{3,9}", word))
    return _DICTIONARY


_DICTIONARY: list[str] = []
